"""Checkpoints: weights in safetensors, the recipe that made them in the header."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from robustbench_pcl.configuration import ID_LENGTH, explained
from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import AnyModel
from robustbench_pcl.store.atomic import write_bytes
from robustbench_pcl.store.formats import FORMAT, other_format
from robustbench_pcl.store.reading import cannot_read, check_file, parse_json
from robustbench_pcl.store.records import ModelRecord
from robustbench_pcl.store.rules import REPAIR, sealed, unsealed

Arrays = Mapping[str, np.ndarray[Any, Any]]

LARGEST_WEIGHTS = 2**34
"""Bytes of a file of weights."""
LARGEST_HEADER = 2**24
"""Bytes of what it says of them: 1,000 layers take 100 thousand."""
PYTORCH = ("a pickled PyTorch file", "a pickled file")
"""What ``torch.save`` writes."""
_FOREIGN = {
    b"PK": PYTORCH[0],
    b"\x80": PYTORCH[1],
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
}


def weights_digest(arrays: Arrays) -> str:
    """The id of a set of named arrays: names, shapes, types and every byte."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        total.update(f"{name}{array.shape}{array.dtype}".encode())
        total.update(array.tobytes())
    return total.hexdigest()[:ID_LENGTH]


def save_arrays(path: Path, arrays: Arrays, description: Mapping[str, Any]) -> None:
    """Write arrays, a JSON description and the format's number into one file, in one step."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    header = json.dumps(sealed({"format": FORMAT, **description}))
    write_bytes(path, save(contiguous, metadata={"pclbench": header}))


def load_description(path: Path) -> dict[str, Any]:
    """The description in a file's header, without reading the arrays.

    Raises:
        UserError: the file is missing, truncated, pickled, a web page, not one of ours, or of
            another format.
    """
    check_weights(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    if "pclbench" not in metadata:
        raise UserError(
            f"{path} holds weights but no recipe, so it was not written by pclbench.",
            "Also name the code of the model: pclbench attack my_model.py:Net "
            f"--weights {path} (docs/how-to/own-model.md).",
        )
    description = parse_json(metadata["pclbench"], f"{path} is truncated or damaged")
    if not isinstance(description, dict):
        raise _unreadable(path, TypeError("its description is not an object"))
    if description.get("format") != FORMAT:
        raise other_format(path, description.get("format"))
    if any(unsealed(description)):
        raise changed(path, "its header is not the one that was written")
    return {name: value for name, value in description.items() if name != "format"}


def check_weights(path: Path, within: Path | None = None) -> None:
    """Check that a file can be opened as weights: that it is one, and what its header takes.

    Args:
        path: the file.
        within: a folder that links may not leave; None where the user named the file.

    Raises:
        UserError: it is no regular file, is too large, or cannot be read.
    """
    if not os.path.lexists(path):
        cause = f"Cannot read {path}: there is no such file."
        raise UserError(cause, "Check the path, or train it: pclbench train.")
    check_file(path, LARGEST_WEIGHTS, "file of weights", within)
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise cannot_read(path, error) from error
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") > LARGEST_HEADER:
        raise _unreadable(path, ValueError("its header is larger than that of any network"))


def load_arrays(path: Path, digest: str | None = None) -> dict[str, np.ndarray[Any, Any]]:
    """All arrays in the file, by name.

    Args:
        path: the file.
        digest: what the header says their :func:`weights_digest` is; None if it says nothing.

    Raises:
        UserError: as :func:`load_description`, or the arrays are others.
    """
    check_weights(path)
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    if digest is not None and weights_digest(arrays) != digest:
        raise changed(path, "its numbers are not the ones that its header names")
    return arrays


def save_state(
    path: Path, identity: str, arrays: Arrays, history: Sequence[Mapping[str, Any]]
) -> None:
    """Write the state of a training between two epochs, with the digest of its arrays.

    Args:
        path: the file.
        identity: id of the checkpoint that it becomes.
        arrays: weights and momentum.
        history: one entry for each epoch that is done.
    """
    description = {"checkpoint": identity, "history": history}
    save_arrays(path, arrays, {**description, "content_digest": weights_digest(arrays)})


def load_state(
    path: Path, identity: str
) -> tuple[dict[str, np.ndarray[Any, Any]], list[dict[str, Any]]]:
    """The arrays and the history of a training between two epochs.

    States that were saved before there were digests name no checkpoint and are believed.

    Raises:
        UserError: the file is damaged, or not the state of that training.
    """
    description = load_description(path)
    arrays = load_arrays(path, description.get("content_digest"))
    history = description.get("history")
    if not isinstance(history, list) or description.get("checkpoint", identity) != identity:
        raise other_training(path)
    return arrays, history


def other_training(path: Path) -> UserError:
    """The error for a file that is not the state of the training that is to go on."""
    return UserError(
        f"{path} is not the state of this interrupted training.",
        "Move it away and run the command again: the training then starts from the beginning.",
    )


def changed(path: Path, how: str) -> UserError:
    """The error for a file that can be read, but is not as it was written."""
    return UserError(f"{path} was changed after it was made: {how}.", REPAIR)


def _unreadable(path: Path, error: Exception) -> UserError:
    """The error for a file that is no safetensors; what it is, if that is plain."""
    try:
        kind = file_kind(path)
    except UserError as reason:
        return reason
    if kind in PYTORCH:
        return UserError(
            f"{path} is {kind}, which can run code, not a safetensors checkpoint.",
            "If it holds the weights of your model, also name its code: "
            f"pclbench attack my_model.py:Net --weights {path} (docs/how-to/own-model.md).",
        )
    if kind not in ("safetensors", ""):
        return UserError(
            f"{path} is {kind}, not a safetensors checkpoint.", "Download or train it again."
        )
    return UserError(
        f"{path} is truncated or damaged ({error}).",
        "Move it away and run the command again to make it again.",
    )


def file_kind(path: Path) -> str:
    """What a file is, by its first bytes: "safetensors", other words, or "" if that is not plain.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except (FileNotFoundError, IsADirectoryError) as reason:
        cure = "Check the path, or train it: pclbench train."
        raise UserError(f"Cannot read {path}: {reason.strerror}.", cure) from reason
    except OSError as reason:
        raise cannot_read(path, reason) from reason
    if head[8:9] == b"{":  # a header after eight bytes of length, which may be any bytes
        return "safetensors"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page (HTML)"
    return next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), "")


@dataclass(frozen=True)
class Checkpoint:
    """A stored model. Its weights are read only when asked for, by :func:`load_arrays`.

    Attributes:
        path: its file.
        record: what made it.
        others: checkpoints of the same recipe with other weights in the same folder, which are
            other models.
    """

    path: Path
    record: ModelRecord
    others: tuple[Checkpoint, ...] = ()

    def standing_for(self, recipe: AnyModel) -> Checkpoint:
        """The same weights under another recipe that leads to them."""
        return replace(self, record=self.record.changed(recipe=recipe))


def save_checkpoint(folder: Path, recipe: AnyModel, identity: str, arrays: Arrays) -> Checkpoint:
    """Store a model."""
    weights = weights_digest(arrays)
    record = ModelRecord(checkpoint=identity, weights=weights, recipe=recipe)
    name = checkpoint_name(record)
    save_arrays(folder / name, arrays, record.content())
    return Checkpoint(folder / name, record)


def checkpoint_name(model: ModelRecord) -> str:
    """The name of a model's file.

    People read its first part; programs read the id and the digest of the weights, so that a recipe
    that was trained to two sets of weights has two files.
    """
    recipe = model.recipe
    first = f"{recipe.dataset}-{recipe.name}-{recipe.scale}"
    return f"{first}-{model.checkpoint}-{model.weights}.safetensors"


def find_checkpoint(folder: Path, identity: str) -> Checkpoint | None:
    """The checkpoint with that id, or None; recipe name and scale in its file's name do not matter.

    Where the recipe was trained to different weights, it is the first by file name, and the
    others are named in it.

    Raises:
        UserError: a file of that id is not a checkpoint.
    """
    found = find_checkpoints(folder, identity)
    return replace(found[0], others=tuple(found[1:])) if found else None


def checkpoint_ids(folder: Path) -> set[str]:
    """The ids of all checkpoints, as their files' names have them."""
    paths = folder.glob("[!.]*-*-*.safetensors")
    return {path.name.rsplit("-", 2)[1] for path in paths}


def find_checkpoints(folder: Path, identity: str) -> list[Checkpoint]:
    """All checkpoints with that id, each with other weights, by file name.

    Raises:
        UserError: a file of that id is not a checkpoint, or another one.
    """
    found: dict[str, Checkpoint] = {}
    for path in sorted(folder.glob(f"[!.]*-{identity}-*.safetensors")):
        checkpoint = open_checkpoint(path, within=folder.parent)
        record = checkpoint.record
        if not path.stem.endswith(f"-{record.checkpoint}-{record.weights}"):
            raise changed(path, f"it holds {checkpoint_name(record)}")
        found.setdefault(checkpoint.record.weights, checkpoint)
    return list(found.values())


def find_named(folder: Path, name: str) -> list[Checkpoint]:
    """All checkpoints whose recipe or external model has that name, by file name.

    Raises:
        UserError: a file that has the name in its own is not a checkpoint.
    """
    files = sorted(folder.glob(f"[!.]*-{escape(name)}-*.safetensors"))
    found = (open_checkpoint(path, within=folder.parent) for path in files)
    return [each for each in found if each.record.recipe.name == name]


def open_checkpoint(path: Path, within: Path | None = None) -> Checkpoint:
    """A checkpoint by its file.

    Args:
        path: the file.
        within: a folder that links may not leave; None where the user named the file.

    Raises:
        UserError: the file is missing, truncated, pickled, a web page, without a recipe, or of
            another version of pclbench.
    """
    check_weights(path, within)
    description = load_description(path)
    try:
        return Checkpoint(path, ModelRecord.model_validate(description))
    except ValidationError as error:
        cure = "It may come from another version of pclbench; train it again."
        raise explained(error, f"The recipe in {path} cannot be read", cure) from error
