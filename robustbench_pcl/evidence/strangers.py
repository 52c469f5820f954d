"""Adversarial sets that others made: what HDF5 may hold, and what is read of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.store.adversarial_sets import (
    BLOCK,
    FIELDS,
    TEXTS,
    AdversarialSet,
    open_set,
)
from robustbench_pcl.store.parts import UNREADABLE, damaged

Array = np.ndarray[Any, Any]
FILTERS = {"gzip", "fletcher32", "shuffle"}
COLUMNS = {*FIELDS, "felled_by"} - {"images"}
ATTRIBUTES = {*TEXTS, "format", "complete"}
LONGEST_TEXT = 2**16
"""Bytes of a description."""


def has_old_text(path: Path) -> bool:
    """Whether a set was written when its text could have any length."""
    with contextlib.suppress(*UNREADABLE), h5py.File(path, "r") as file:
        return _old_text(file)
    return False


def _old_text(file: h5py.File) -> bool:
    kinds = (file.attrs.get_id(name).dtype.kind for name in TEXTS if name in file.attrs)
    return "O" in kinds


def open_strangers(path: Path) -> AdversarialSet:
    """A finished set, opened only where nothing in the file leads out of it or takes more memory.

    Links, external storage and virtual data sets would read other files; text of any length lies
    in a heap that HDF5 may never return from; a few bytes can declare images of any size.

    Raises:
        UserError: the file is no such set.
    """
    try:
        with h5py.File(path, "r") as file:
            _require(path, set(file.attrs) == ATTRIBUTES, "its attributes are others")
            _require(path, not _old_text(file), "its text has no fixed length")
            for name in TEXTS:
                kind = file.attrs.get_id(name).dtype
                _require(path, kind.kind == "S", f"its {name} are no text")
                _require(path, kind.itemsize <= LONGEST_TEXT, "its text is too long")
            _require(path, len(file) <= len(COLUMNS) + 1, "it holds more than a set")
            for name in file:
                where = f"{name!r} in it"
                link = file.get(name, getlink=True)
                _require(path, type(link) is h5py.HardLink, f"{where} is a link")
                _require(path, isinstance(file[name], h5py.Dataset), f"{where} is no array")
        images = open_set(path)
        with h5py.File(path, "r") as file:
            _check_arrays(path, file, images)
    except UNREADABLE as error:
        raise damaged(path, error) from error
    return images


def _check_arrays(path: Path, file: h5py.File, images: AdversarialSet) -> None:
    """Each array is stored in the file, in the shape and the type of its set.

    Raises:
        UserError: it is not.
    """
    spec = dataset_spec(images.spec.data.dataset)
    n = images.spec.n
    _require(path, n <= spec.test_images, "it has more images than there are")
    for name in file:
        array = file[name]
        _require(path, name in COLUMNS or name == "images", "it holds more than a set")
        shape, kind = ((n, *spec.shape), "<f4") if name == "images" else ((n,), "<i8")
        _require(path, array.shape == shape, f"{name} has another shape")
        _require(path, array.dtype == np.dtype(kind), f"{name} are other numbers")
        own = not array.external and not array.is_virtual
        _require(path, own, f"{name} lies in other files")
        chunks = array.chunks or shape
        whole = all(part <= side for part, side in zip(chunks, shape, strict=True))
        _require(path, whole, f"{name} has larger chunks than it is")
        _require(path, set(array._filters) <= FILTERS, f"{name} is packed in another way")


def _require(path: Path, holds: bool, why: str) -> None:
    if not holds:
        raise damaged(path, why)


class CheckedSet:
    """A set whose file is sound, its columns in memory.

    Args:
        name: of its file in the folder.
        images: it.

    Attributes:
        indices: int64 (N,), positions of the clean images.
        labels: int64 (N,).
        predictions: int64 (N,), the source's classes; -1 where no source is known.
        felled_by: int64 (N,), see :meth:`AdversarialSet.felled_by`.

    Raises:
        UserError: a column cannot be read.
    """

    def __init__(self, name: str, images: AdversarialSet) -> None:
        self.name, self.images = name, images
        self.indices, self.labels, self.predictions = map(
            images.column, ("indices", "labels", "predictions")
        )
        self.felled_by = images.felled_by()

    def pixels(self, rows: Array) -> Array:
        """Some of the images, float32 (M, C, H, W).

        Args:
            rows: int64 (M,), rising.
        """
        wanted = np.isin(np.arange(self.images.spec.n), rows)
        return np.concatenate([block[wanted[where]] for where, block in self.blocks()])

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Rows, and their images float32 (B, C, H, W)."""
        start = 0
        for block, _ in self.images.batches(BLOCK):
            yield slice(start, start + len(block)), block
            start += len(block)
