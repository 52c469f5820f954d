"""Checkpoints: weights in safetensors, the recipe that made them in the header."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from robustbench_pcl.errors import UserError
from robustbench_pcl.specs.recipe import Recipe
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
    """A stored model: where it is and what made it. The weights are read only when asked for."""

    path: Path
    record: ModelRecord

    def standing_for(self, recipe: Recipe) -> Checkpoint:
        """The same weights under another recipe that leads to them."""
        return replace(self, record=self.record.model_copy(update={"recipe": recipe}))

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


def checkpoint_path(folder: Path, recipe: Recipe, identity: str) -> Path:
    """The file of a recipe's checkpoint; people read the first part, programs the id."""
    return folder / f"{recipe.dataset}-{recipe.name}-{recipe.scale}-{identity}.safetensors"


def save_checkpoint(folder: Path, recipe: Recipe, identity: str, arrays: Arrays) -> Checkpoint:
    """Store a trained model under its id."""
    record = ModelRecord(checkpoint=identity, weights=weights_digest(arrays), recipe=recipe)
    path = checkpoint_path(folder, recipe, identity)
    save_arrays(path, arrays, record.content())
    return Checkpoint(path, record)


def find_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """The checkpoint with that id, or None; its name and scale in the file name do not matter.

    Raises:
        UserError: the file is there but is not a checkpoint.
    """
    found = sorted(folder.glob(f"*-{identity}.safetensors"))
    return open_checkpoint(found[0]) if found else None


def open_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint by its file.

    Raises:
        UserError: the file is missing, truncated, pickled, a web page, or without a recipe.
    """
    description = load_description(path)
    try:
        return Checkpoint(path, ModelRecord.model_validate(description))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"The recipe in {path} cannot be read: {'.'.join(map(str, first['loc']))}: "
            f"{first['msg']}.",
            "It may come from another version of pclbench; train it again.",
        ) from error
