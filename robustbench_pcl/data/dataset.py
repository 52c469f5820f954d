"""Images and labels in memory, with where they came from and a digest of what they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from robustbench_pcl.configuration import ID_LENGTH
from robustbench_pcl.data.datasets import DatasetSpec
from robustbench_pcl.errors import UserError
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
            notes.append(
                f"{counts[0]:,} of {spec.train_images:,} training and "
                f"{counts[1]:,} of {spec.test_images:,} test images"
            )
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
