"""Checkpoints: weights in safetensors, the recipe that made them in the header."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from robustbench_pcl.configuration import explained
from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.store.records import ModelRecord
from robustbench_pcl.store.tensors import (
    Arrays,
    load_arrays,
    load_description,
    save_arrays,
    weights_digest,
)


@dataclass(frozen=True)
class Checkpoint:
    """A stored model. The weights are read only when asked for.

    Attributes:
        path: its file.
        record: what made it.
        others: checkpoints of the same recipe with other weights in the same folder, which are
            other models.
    """

    path: Path
    record: ModelRecord
    others: tuple[Checkpoint, ...] = ()

    def standing_for(self, recipe: Recipe) -> Checkpoint:
        """The same weights under another recipe that leads to them."""
        return replace(self, record=self.record.changed(recipe=recipe))

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """The weights, by name.

        Raises:
            UserError: the file is damaged, or its weights are not the ones its header names.
        """
        arrays = load_arrays(self.path)
        if weights_digest(arrays) != self.record.weights:
            raise UserError(
                f"The weights in {self.path} are not the ones that its header names.",
                "The file was changed after training: move it away and train again.",
            )
        return arrays


def save_checkpoint(folder: Path, recipe: Recipe, identity: str, arrays: Arrays) -> Checkpoint:
    """Store a trained model.

    People read the first part of the file's name; programs read the id and the digest of the
    weights, so that a recipe that was trained to two sets of weights has two files.
    """
    weights = weights_digest(arrays)
    record = ModelRecord(checkpoint=identity, weights=weights, recipe=recipe)
    name = f"{recipe.dataset}-{recipe.name}-{recipe.scale}-{identity}-{weights}.safetensors"
    save_arrays(folder / name, arrays, record.content())
    return Checkpoint(folder / name, record)


def find_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """The checkpoint with that id, or None; recipe name and scale in its file's name do not matter.

    Where the recipe was trained to different weights, it is the first by file name, and the
    others are named in it.

    Raises:
        UserError: a file of that id is not a checkpoint.
    """
    found = find_checkpoints(folder, identity)
    return replace(found[0], others=tuple(found[1:])) if found else None


def find_checkpoints(folder: Path, identity: str) -> list[Checkpoint]:
    """All checkpoints with that id, each with other weights, by file name.

    Raises:
        UserError: a file of that id is not a checkpoint.
    """
    found: dict[str, Checkpoint] = {}
    for path in sorted(folder.glob(f"[!.]*-{identity}-*.safetensors")):
        checkpoint = open_checkpoint(path)
        found.setdefault(checkpoint.record.weights, checkpoint)
    return list(found.values())


def open_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint by its file.

    Raises:
        UserError: the file is missing, truncated, pickled, a web page, without a recipe, or of
            another version of pclbench.
    """
    description = load_description(path)
    try:
        return Checkpoint(path, ModelRecord.model_validate(description))
    except ValidationError as error:
        cure = "It may come from another version of pclbench; train it again."
        raise explained(error, f"The recipe in {path} cannot be read", cure) from error
