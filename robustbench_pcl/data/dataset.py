"""A data set in memory, and in the folder where every one that was found once is kept."""

from __future__ import annotations

import hashlib
import os
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import platformdirs

from robustbench_pcl.configuration import ID_LENGTH, Description
from robustbench_pcl.data.datasets import DatasetSpec
from robustbench_pcl.errors import UserError, refused, shortened
from robustbench_pcl.store.atomic import bring_back, replacing_folder
from robustbench_pcl.store.reading import check_file, parse_json, read_bounded
from robustbench_pcl.store.records import DataRecord

Images = npt.NDArray[np.uint8]

Labels = npt.NDArray[np.int64]

SplitName = Literal["train", "test"]

SPLITS: tuple[SplitName, ...] = ("train", "test")


@dataclass(frozen=True)
class Provenance:
    """Where the images came from.

    Attributes:
        source: in words, without any path of this machine ("scikit-learn").
        lossy: the pixels are not the published ones.
        subset: fewer images than published.
        note: what a reader of a number has to know about it, or "".
    """

    source: str
    lossy: bool = False
    subset: bool = False
    note: str = ""


@dataclass(frozen=True, eq=False)
class RawDataset:
    """What a source hands over, to be checked, measured and cached.

    Attributes:
        train_images: uint8 (N, C, H, W).
        train_labels: integers (N,).
        test_images: uint8 (N, C, H, W).
        test_labels: integers (N,).
        source: where it was found, in words, without any path of this machine.
        lossy: the pixels are not the published ones.
    """

    train_images: Images
    train_labels: npt.NDArray[np.integer]
    test_images: Images
    test_labels: npt.NDArray[np.integer]
    source: str
    lossy: bool = False

    def provenance(self, spec: DatasetSpec) -> Provenance:
        """The same in the words that are kept beside every number."""
        counts = (len(self.train_images), len(self.test_images))
        subset = counts != (spec.train_images, spec.test_images)
        notes = []
        if self.lossy:
            notes.append("JPEG copy: pixels differ from the published set")
        if subset:
            notes.append(spec.counts(*counts))
        return Provenance(self.source, self.lossy, subset, "; ".join(notes))


@dataclass(frozen=True, eq=False)
class Split:
    """The training or the test images.

    Attributes:
        images: uint8 (N, C, H, W), read-only, possibly memory-mapped.
        labels: int64 (N,), read-only.
        digest: short SHA-256 of both.
    """

    images: Images
    labels: Labels
    digest: str

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, ready for use.

    Attributes:
        spec: what is known about it.
        train: the training images.
        test: the test images.
        mean: of each channel over the training images, in pixels of [0, 1].
        std: of each channel over the training images, in pixels of [0, 1].
        provenance: where it came from.
    """

    spec: DatasetSpec
    train: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    provenance: Provenance

    def record(self, split_name: SplitName) -> DataRecord:
        """What to keep beside a number that was measured on ``split_name``."""
        split = self.train if split_name == "train" else self.test
        return DataRecord(
            dataset=self.spec.name,
            digest=split.digest,
            source=self.provenance.source,
            lossy=self.provenance.lossy,
            subset=self.provenance.subset,
            note=self.provenance.note,
        )


def split_digest(images: Images, labels: Labels) -> str:
    """The short SHA-256 of pixels and labels; the same on every machine."""
    sha = hashlib.sha256(str(images.shape).encode())
    sha.update(np.ascontiguousarray(images).data)
    sha.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return sha.hexdigest()[:ID_LENGTH]


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in pixels of [0, 1].

    They are taken from a histogram of the 256 values, so the sums are exact and the result does
    not depend on the order of summation.

    Args:
        images: uint8 (N, C, H, W).
    """
    channels = images.shape[1]
    histogram = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(images), 1000):  # bincount widens to int64: not all at once
        chunk = images[start : start + 1000]
        for channel in range(channels):
            histogram[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    fractions = histogram / histogram.sum(axis=1, keepdims=True)
    mean = fractions @ values
    variance = fractions @ values**2 - mean**2
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())


def check_split(
    spec: DatasetSpec, name: SplitName, images: npt.NDArray[np.generic], labels: Labels
) -> None:
    """Check that arrays can be a split of the data set.

    Raises:
        UserError: wrong type, shape or number of images, or a label out of range.
    """
    published = spec.train_images if name == "train" else spec.test_images
    problem = ""
    if images.dtype != np.uint8 or images.shape[1:] != spec.shape:
        problem = f"are {images.dtype} {images.shape[1:]}, not uint8 {spec.shape}"
    elif not 0 < len(images) <= published:
        problem = f"are {len(images):,}, but {spec.title} has {published:,}"
    elif labels.shape != (len(images),):
        problem = f"are {len(images):,}, but their labels have the shape {labels.shape}"
    elif labels.min() < 0 or labels.max() >= len(spec.classes):
        problem = f"have labels outside 0..{len(spec.classes) - 1}"
    if problem:
        raise UserError(
            f"The {name} images {problem}.", f"Is it {spec.title}? See: pclbench data list"
        )


READ_FAILURES = (
    *(OSError, EOFError, ValueError, UserError),
    *(SyntaxError, RecursionError, MemoryError, OverflowError, tokenize.TokenError),
)
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


LARGEST_INFO, LARGEST_ARRAY = 2**20, 2**40
"""Bytes of ``info.json``, and of an array, which is not read as a whole."""


def cache_root() -> Path:
    """The folder of all cached data sets: PCLBENCH_CACHE, or the platform's folder for caches."""
    if own := os.environ.get("PCLBENCH_CACHE"):
        return Path(own).expanduser()
    return platformdirs.user_cache_path("pclbench", appauthor=False, opinion=False)


def read_info(spec: DatasetSpec) -> CacheInfo | None:
    """What the cache says about a data set without opening its images; None if it is not there.

    Raises:
        UserError: the cache is broken.
    """
    folder = cache_root() / spec.name
    try:
        return _info(folder)
    except READ_FAILURES as error:
        raise _broken(spec, folder, error) from error


def read(spec: DatasetSpec) -> Dataset | None:
    """Open a cached data set, images memory-mapped; None if it is not there.

    Raises:
        UserError: the cache is broken.
    """
    folder = cache_root() / spec.name
    while True:  # until nobody replaces the data set while it is being opened
        before = _identity(folder)
        splits: dict[SplitName, Split] = {}
        try:
            info = _info(folder)
            if info is None:
                return None
            for name in SPLITS:
                known = info.train if name == "train" else info.test
                for part in ("images", "labels"):
                    check_file(folder / f"{name}-{part}.npy", LARGEST_ARRAY, "array")
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
        except READ_FAILURES as error:
            if _identity(folder) == before:
                raise _broken(spec, folder, error) from error
        else:
            if _identity(folder) == before:
                train, test = splits["train"], splits["test"]
                return Dataset(spec, train, test, info.mean, info.std, info.provenance)


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
        with replacing_folder(cache_root() / spec.name) as folder:
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
                f"it was {shortened(split.digest)}.",
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
    content = read_bounded(folder / "info.json", LARGEST_INFO, "description of a data set")
    return CacheInfo.model_validate(parse_json(content, "info.json is none"))


def _broken(spec: DatasetSpec, folder: Path, error: Exception) -> UserError:
    if not isinstance(error, UserError | FileNotFoundError) and (
        known := refused(error, getattr(error, "filename", None) or folder, "read")
    ):
        return known
    reason = error.cause if isinstance(error, UserError) else shortened(str(error), 200)
    return UserError(
        f"The cached {spec.title} in {folder} is broken: {reason.rstrip('.')}.",
        f"Look closer with `pclbench data verify {spec.name}`, or replace it: "
        f"pclbench data add {spec.name} [FILE]",
    )
