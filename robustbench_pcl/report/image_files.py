"""Per-image results in files for other tools: CSV, JSON Lines, HDF5 and .npz (docs/export.md)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd

from robustbench_pcl.errors import UserError
from robustbench_pcl.report.formatting import csv_text
from robustbench_pcl.report.per_image import BATCH, IMAGE_COLUMNS, SHARED_COLUMNS, Answered
from robustbench_pcl.store.atomic import replacing

Array = np.ndarray[Any, Any]
ROWS = (".csv", ".jsonl")
ARRAYS = (".h5", ".npz")
UNKNOWN = -1
"""Of a class in arrays, which have no empty place; of a perturbation it is NaN."""


def write_per_image(answered: Sequence[Answered], output: Path) -> int:
    """Write per-image results, as the file's name says; return the number of rows.

    Raises:
        UserError: the name says no format that is written, or one that holds one set only.
    """
    if output.suffix in ROWS:
        return _write_rows(output, answered)
    if output.suffix not in ARRAYS:
        kinds = ", ".join((*ARRAYS, *ROWS))
        raise UserError(
            f"The name {output.name} has no known ending.", f"Name a file that ends in {kinds}."
        )
    if len(answered) > 1:
        raise UserError(
            f"{output.name} can hold one set of images, not {len(answered)}.",
            f"Name one of them by its id, or write {' or '.join(ROWS)}.",
        )
    return _write_arrays(output, answered[0])


class _Images(NamedTuple):
    """Images on their way into a file: their shape (N, C, H, W), and float32 batches of them."""

    shape: tuple[int, ...]
    batches: Iterator[Array]


def _write_rows(path: Path, answered: Sequence[Answered]) -> int:
    """Write CSV or JSON Lines, by the file's name; return the number of rows.

    Raises:
        UserError: the disk does not take it.
    """
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for each in answered:
            frame = each.frame()
            if path.suffix == ".csv":
                file.write(csv_text(frame, header=count == 0))
            else:
                frame.to_json(file, orient="records", lines=True, double_precision=15)
            count += len(frame)
    return count


def _write_arrays(path: Path, answered: Answered) -> int:
    """Write HDF5 or .npz, by the file's name, with the images; return their number.

    Raises:
        UserError: the images are no longer stored, or the disk does not take it.
    """
    frame = answered.frame()
    shared = {column.name: frame[column.name].iloc[0] for column in SHARED_COLUMNS}
    known = {name: value for name, value in shared.items() if not pd.isna(value)}
    images = _Images((len(frame), *answered.dataset.spec.shape), answered.batches())
    write = _write_hdf5 if path.suffix == ".h5" else _write_npz
    with replacing(path) as temporary:
        write(temporary, _arrays(frame), known, images)
    return len(frame)


def _arrays(frame: pd.DataFrame) -> dict[str, Array]:
    """What differs from image to image; what is not known of any of them is left out."""
    found: dict[str, Array] = {}
    for column in IMAGE_COLUMNS:
        values = frame[column.name].dropna()
        if column.dtype == "Int64":
            found[column.name] = frame[column.name].to_numpy("int64", na_value=UNKNOWN)
        elif column.dtype == "float64" or len(values) == len(frame):
            kind = {"boolean": "bool", "object": "str"}.get(column.dtype, column.dtype)
            found[column.name] = frame[column.name].to_numpy().astype(kind)
    return found


def _write_hdf5(
    path: Path, arrays: Mapping[str, Array], shared: Mapping[str, object], images: _Images
) -> None:
    """Arrays and images as data sets, what they share as attributes."""
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array.astype(object) if array.dtype.kind == "U" else array
        file.attrs.update(shared)
        shape = images.shape
        chunks = (min(BATCH, shape[0]), *shape[1:])
        pixels = file.create_dataset("images", shape, "f4", chunks=chunks, compression="gzip")
        start = 0
        for batch in images.batches:
            pixels[start : start + len(batch)] = batch
            start += len(batch)


def _write_npz(
    path: Path, arrays: Mapping[str, Array], shared: Mapping[str, object], images: _Images
) -> None:
    """Arrays and images as members, what they share as arrays without dimensions."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        scalars = {name: np.array(value) for name, value in shared.items()}
        for name, array in {**arrays, **scalars}.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        with archive.open("images.npy", "w", force_zip64=True) as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": images.shape}
            np.lib.format.write_array_header_1_0(member, header)
            for batch in images.batches:
                member.write(batch.astype("<f4").tobytes())
