"""The folder where every data set that was found once is kept, in one plain format."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from robustbench_pcl.data import atomic
from robustbench_pcl.data.dataset import (
    SPLITS,
    Dataset,
    Images,
    Labels,
    Provenance,
    RawDataset,
    Split,
    SplitName,
    channel_statistics,
    check_split,
    split_digest,
)
from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.errors import UserError
from robustbench_pcl.specs.base import Spec


class SplitInfo(Spec):
    """One split in ``info.json``: number of images and digest."""

    count: int
    digest: str


class CacheInfo(Spec):
    """The content of ``info.json``."""

    format: Literal[1] = 1
    dataset: str
    train: SplitInfo
    test: SplitInfo
    mean: tuple[float, ...]
    std: tuple[float, ...]
    provenance: Provenance


def cache_root() -> Path:
    """The folder of all cached data sets.

    PCLBENCH_CACHE if it is set; else ``pclbench`` in XDG_CACHE_HOME or in the platform's own
    folder for caches.
    """
    if own := os.environ.get("PCLBENCH_CACHE"):
        return Path(own).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "pclbench"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "pclbench"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pclbench"
    return Path.home() / ".cache" / "pclbench"


def folder_of(spec: DatasetSpec) -> Path:
    """Where a data set is cached, whether it is there or not."""
    return cache_root() / spec.name


def read_info(spec: DatasetSpec) -> CacheInfo | None:
    """What the cache says about a data set without opening its images; None if it is not there.

    Raises:
        UserError: the cache is broken.
    """
    folder = folder_of(spec)
    with _broken_if_fails(spec):
        atomic.bring_back(folder)
        if not folder.exists():
            return None
        return CacheInfo.model_validate_json((folder / "info.json").read_bytes())


def read(spec: DatasetSpec) -> Dataset | None:
    """Open a cached data set, images memory-mapped; None if it is not there.

    Raises:
        UserError: the cache is broken.
    """
    while True:  # until nobody replaces the data set while it is being opened
        before = _identity(folder_of(spec))
        try:
            dataset = _open(spec)
        except UserError:
            if _identity(folder_of(spec)) == before:
                raise
        else:
            if _identity(folder_of(spec)) == before:
                return dataset


def write(spec: DatasetSpec, raw: RawDataset) -> None:
    """Check a data set, measure it, and put it into the cache in place of what was there.

    A process that is killed here leaves either the old data set or the new one, whole.

    Raises:
        UserError: the arrays do not fit the data set, or the cache cannot be written.
    """
    arrays: dict[SplitName, tuple[Images, Labels]] = {
        "train": (np.ascontiguousarray(raw.train_images), raw.train_labels.astype(np.int64)),
        "test": (np.ascontiguousarray(raw.test_images), raw.test_labels.astype(np.int64)),
    }
    for name in SPLITS:
        check_split(spec, name, *arrays[name])
    mean, std = channel_statistics(arrays["train"][0])
    info = CacheInfo(
        dataset=spec.name,
        train=SplitInfo(count=len(raw.train_images), digest=split_digest(*arrays["train"])),
        test=SplitInfo(count=len(raw.test_images), digest=split_digest(*arrays["test"])),
        mean=mean,
        std=std,
        provenance=raw.provenance(spec),
    )
    try:
        with atomic.replacing(folder_of(spec)) as folder:
            for name, (images, labels) in arrays.items():
                np.save(folder / f"{name}-images.npy", images)
                np.save(folder / f"{name}-labels.npy", labels)
            (folder / "info.json").write_text(info.model_dump_json(indent=2))
    except OSError as error:
        raise UserError(
            f"The cache {cache_root()} cannot be written: {error}.",
            "Set PCLBENCH_CACHE to a folder with room for it.",
        ) from error


def verify(spec: DatasetSpec) -> Dataset | None:
    """Read every byte of a cached data set again; None if it is not there.

    Raises:
        UserError: the cache is broken, or pixels or labels are not those that were written.
    """
    dataset = read(spec)
    if dataset is None:
        return None
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        found = split_digest(split.images, split.labels)
        if found != split.digest:
            raise UserError(
                f"The cached {name} images of {spec.title} have changed: their digest is {found}, "
                f"it was {split.digest}.",
                f"Replace them: pclbench data add {spec.name} [FILE]",
            )
    return dataset


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _open(spec: DatasetSpec) -> Dataset | None:
    info = read_info(spec)
    if info is None:
        return None
    with _broken_if_fails(spec):
        return Dataset(
            spec=spec,
            train=_read_split(spec, "train", info.train),
            test=_read_split(spec, "test", info.test),
            mean=info.mean,
            std=info.std,
            provenance=info.provenance,
        )


def _read_split(spec: DatasetSpec, name: SplitName, info: SplitInfo) -> Split:
    images = _read_array(folder_of(spec) / f"{name}-images.npy")
    # Labels are small: in memory, they cost no page faults in random order.
    labels: Labels = np.array(_read_array(folder_of(spec) / f"{name}-labels.npy"))
    labels.flags.writeable = False
    if labels.dtype != np.int64 or len(labels) != info.count:
        raise ValueError(f"{name}-labels.npy is not {info.count} int64")
    check_split(spec, name, images, labels)
    return Split(images, labels, info.digest)


def _read_array(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    if not array.flags.c_contiguous:
        raise ValueError(f"{path.name} is not in C order")
    return array


@contextmanager
def _broken_if_fails(spec: DatasetSpec) -> Iterator[None]:
    """Turn whatever reading raises into the error that names the cure."""
    try:
        yield
    except (OSError, EOFError, ValueError, ValidationError, UserError) as error:
        reason = error.cause if isinstance(error, UserError) else " ".join(str(error).split())
        raise UserError(
            f"The cached {spec.title} in {folder_of(spec)} is broken: {reason.rstrip('.')}.",
            f"Look closer with `pclbench data verify {spec.name}`, or replace it: "
            f"pclbench data add {spec.name} [FILE]",
        ) from error
