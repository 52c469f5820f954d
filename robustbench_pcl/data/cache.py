"""The folder where every data set that was found once is kept, in one plain format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import platformdirs

from robustbench_pcl.configuration import Description
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
from robustbench_pcl.data.datasets import DatasetSpec
from robustbench_pcl.errors import UserError
from robustbench_pcl.store.atomic import bring_back, replacing_folder

READ_FAILURES = (OSError, EOFError, ValueError, UserError)
"""What reading a damaged cache raises; pydantic's ValidationError is a ValueError."""


class SplitInfo(Description):
    """One split in ``info.json``: number of images and digest."""

    count: int
    digest: str


class CacheInfo(Description):
    """The content of ``info.json``."""

    format: Literal[1] = 1
    dataset: str
    train: SplitInfo
    test: SplitInfo
    mean: tuple[float, ...]
    std: tuple[float, ...]
    provenance: Provenance


def cache_root() -> Path:
    """The folder of all cached data sets: PCLBENCH_CACHE, or the platform's folder for caches."""
    if own := os.environ.get("PCLBENCH_CACHE"):
        return Path(own).expanduser()
    return platformdirs.user_cache_path("pclbench", appauthor=False, opinion=False)


def folder_of(spec: DatasetSpec) -> Path:
    """Where a data set is cached, whether it is there or not."""
    return cache_root() / spec.name


def read_info(spec: DatasetSpec) -> CacheInfo | None:
    """What the cache says about a data set without opening its images; None if it is not there.

    Raises:
        UserError: the cache is broken.
    """
    folder = folder_of(spec)
    try:
        return _info(folder)
    except READ_FAILURES as error:
        raise _broken(spec, folder, error) from error


def read(spec: DatasetSpec) -> Dataset | None:
    """Open a cached data set, images memory-mapped; None if it is not there.

    Raises:
        UserError: the cache is broken.
    """
    folder = folder_of(spec)
    while True:  # until nobody replaces the data set while it is being opened
        before = _identity(folder)
        try:
            dataset = _open(spec, folder)
        except READ_FAILURES as error:
            if _identity(folder) == before:
                raise _broken(spec, folder, error) from error
        else:
            if _identity(folder) == before:
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
        with replacing_folder(folder_of(spec)) as folder:
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
    """What changes when another folder takes this one's place; None if it is not there."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _info(folder: Path) -> CacheInfo | None:
    if not folder.exists():
        bring_back(folder)
        if not folder.exists():
            return None
    return CacheInfo.model_validate_json((folder / "info.json").read_bytes())


def _open(spec: DatasetSpec, folder: Path) -> Dataset | None:
    """The data set in ``folder``; whatever is wrong with it is one of ``READ_FAILURES``."""
    info = _info(folder)
    if info is None:
        return None
    splits: dict[SplitName, Split] = {}
    for name in SPLITS:
        known = info.train if name == "train" else info.test
        images, stored = (
            np.load(folder / f"{name}-{part}.npy", mmap_mode="r", allow_pickle=False)
            for part in ("images", "labels")
        )
        if not images.flags.c_contiguous:
            raise ValueError(f"{name}-images.npy is not in C order")
        if stored.dtype != np.int64 or len(stored) != known.count:
            raise ValueError(f"{name}-labels.npy is not {known.count} int64")
        # Labels are small: in memory, they cost no page faults in random order.
        labels: Labels = np.array(stored)
        labels.flags.writeable = False
        check_split(spec, name, images, labels)
        splits[name] = Split(images, labels, known.digest)
    return Dataset(spec, splits["train"], splits["test"], info.mean, info.std, info.provenance)


def _broken(spec: DatasetSpec, folder: Path, error: Exception) -> UserError:
    reason = error.cause if isinstance(error, UserError) else " ".join(str(error).split())
    return UserError(
        f"The cached {spec.title} in {folder} is broken: {reason.rstrip('.')}.",
        f"Look closer with `pclbench data verify {spec.name}`, or replace it: "
        f"pclbench data add {spec.name} [FILE]",
    )
