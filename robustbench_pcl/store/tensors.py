"""Named arrays and their description in one safetensors file, checked before a byte is trusted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from robustbench_pcl.configuration import ID_LENGTH
from robustbench_pcl.errors import UserError
from robustbench_pcl.store.atomic import write_bytes
from robustbench_pcl.store.records import FORMAT, refuse_other_format

Arrays = Mapping[str, np.ndarray[Any, Any]]

_FOREIGN = {
    b"PK": "a pickled PyTorch file",
    b"\x80": "a pickled file",
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
    header = json.dumps({"format": FORMAT, **description})
    write_bytes(path, save(contiguous, metadata={"pclbench": header}))


def load_description(path: Path) -> dict[str, Any]:
    """The description in a file's header, without reading the arrays.

    Raises:
        UserError: the file is missing, truncated, pickled, a web page, not one of ours, or of
            another format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    if "pclbench" not in metadata:
        raise UserError(
            f"{path} holds weights but no recipe, so it was not written by pclbench.",
            "Train it with pclbench train, or attack your own model from Python: see README.md.",
        )
    try:
        description = json.loads(metadata["pclbench"])
    except ValueError as error:
        raise _unreadable(path, error) from error
    if not isinstance(description, dict):
        raise _unreadable(path, TypeError("its description is not an object"))
    refuse_other_format(path, description.pop("format", None))
    return description


def load_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All arrays in the file.

    Raises:
        UserError: as :func:`load_description`.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    """The error for a file that is no safetensors; what it is, if that is plain."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as reason:
        return UserError(
            f"Cannot read {path}: {reason.strerror}.",
            "Check the path, or train it: pclbench train.",
        )
    kind = next((what for magic, what in _FOREIGN.items() if head.startswith(magic)), None)
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        kind = "a web page (HTML)"
    if kind and head[8:9] != b"{":  # a header after eight bytes of length, which may be any bytes
        return UserError(
            f"{path} is {kind}, not a safetensors checkpoint.",
            "Download or train it again; pclbench never opens pickled files, which can run code.",
        )
    return UserError(
        f"{path} is truncated or damaged ({error}).",
        "Move it away and run the command again to make it anew.",
    )
