"""Adversarial sets read for a number: what it rests on is checked while they are read.

A set checks itself against its digests (:mod:`robustbench_pcl.store.adversarial_sets`). Here it is
held against the data set: images of its shape, its labels, and no image farther from its clean one
than the attack's budget and than the set says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robustbench_pcl.attacks.base import norm_of
from robustbench_pcl.attacks.stages import WITHSTOOD, WRONG
from robustbench_pcl.data.dataset import Dataset, split_digest
from robustbench_pcl.data.datasets import DatasetSpec, dataset_spec
from robustbench_pcl.store.adversarial_sets import (
    BLOCK,
    AdversarialSet,
    Sizes,
    open_set,
    perturbation_sizes,
)
from robustbench_pcl.store.reading import damaged
from robustbench_pcl.store.rules import ROUNDING

Array = np.ndarray[Any, Any]
ACCURACY = 1e-9
"""Of sums, whose order depends on the processor; relative, and in pixels of [0, 1]."""


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
        UserError: a column cannot be read, or does not match its digest.
    """

    def __init__(self, name: str, images: AdversarialSet) -> None:
        self.name, self.images = name, images
        self.indices, self.labels, self.predictions = (
            images.columns[column] for column in ("indices", "labels", "predictions")
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
        """Rows, and their images float32 (B, C, H, W).

        Raises:
            UserError: they cannot be read, do not match their digest, or are no pixels.
        """
        start = 0
        for block, _ in self.images.batches(BLOCK):
            yield slice(start, start + len(block)), block
            start += len(block)


def open_strangers(path: Path) -> AdversarialSet:
    """A set that others made, with no more and no other images than its data set has.

    Raises:
        UserError: the file is no such set.
    """
    images = open_set(path)
    spec = dataset_spec(images.spec.data.dataset)
    _check_shape(images, spec)
    if images.spec.n > spec.test_images:
        raise damaged(path, "it has more images than there are")
    return images


def check_set(images: AdversarialSet, dataset: Dataset) -> None:
    """Check all of a set, for a reader that does not read it to its end.

    Raises:
        UserError: see :func:`checked_batches`.
    """
    for _ in checked_batches(images, dataset, BLOCK):
        pass


def checked_batches(
    images: AdversarialSet, dataset: Dataset, size: int
) -> Iterator[tuple[Array, Array]]:
    """Yield a set's batches, (images float32 (B, C, H, W), labels int64 (B,)), and check them.

    What is known only at the end is checked behind the last batch. Where the clean images of the
    set are not those that are here, it is held against its own digests alone.

    Args:
        images: the set.
        dataset: that is here.
        size: images of a batch.

    Raises:
        UserError: the set cannot be read, does not match its digests, is of another shape, has
            other labels, contradicts itself, or an image is farther from its clean one than the
            budget or than the set says.
    """
    _check_shape(images, dataset.spec)
    _check_felled(images)
    rows = images.columns["indices"]
    if not are_clean_images(dataset, images.spec.data.digest, rows):
        yield from images.batches(size)
        return
    differ = np.flatnonzero(np.asarray(dataset.test.labels)[rows] != images.columns["labels"])
    if len(differ):
        raise damaged(images.path, f"the label of test image {rows[differ[0]]} is another")
    start, found = 0, []
    for batch, labels in images.batches(size):
        own = rows[start : start + len(batch)]
        start += len(batch)
        found.append(perturbation_sizes(batch, dataset.test.images[own]))
        _check_budget(images, found[-1], own)
        yield batch, labels
    _check_summary(images, Sizes(*map(np.concatenate, zip(*found, strict=True))))


def are_clean_images(dataset: Dataset, digest: str, rows: Array) -> bool:
    """Whether a data set's test images at some positions are those that a digest stands for.

    Args:
        dataset: that is here.
        digest: of the whole split, or of those images.
        rows: int64 (N,), positions.
    """
    test = dataset.test
    if rows.min() < 0 or rows.max() >= len(test):
        return False
    return digest in (test.digest, split_digest(test.images[rows], np.asarray(test.labels)[rows]))


def _check_shape(images: AdversarialSet, spec: DatasetSpec) -> None:
    """No image is larger than those of the data set, before any is read."""
    if images.shape != spec.shape:
        shown = " x ".join(map(str, images.shape))
        raise damaged(images.path, f"its images are {shown}, not those of {spec.title}")


def _check_felled(images: AdversarialSet) -> None:
    """A stage felled exactly those that the source has wrong, but for those wrong when clean."""
    if images.spec.source is None:  # crafted elsewhere: nobody was asked
        return
    felled, stages = images.felled_by(), max(len(images.stages), 1)
    known = (felled >= WRONG) & (felled < stages)
    if (((felled == WITHSTOOD) != images.source_verdicts()) | ~known).any():
        raise damaged(images.path, "what felled an image contradicts its prediction")


def _check_budget(images: AdversarialSet, sizes: Sizes, rows: Array) -> None:
    """No image is farther from its clean one than the attack's budget, where it has one."""
    spec = images.spec
    eps, norm = spec.attack.get("eps"), norm_of(spec.attack)
    if norm != spec.norm:
        raise damaged(images.path, f"its norm is {spec.norm}, its attack's {norm}")
    found = getattr(sizes, norm)
    worst = int(found.argmax())
    if isinstance(eps, int | float) and found[worst] > eps + ROUNDING:
        far = f"test image {rows[worst]} is {found[worst]:.4g} from its clean one"
        raise damaged(images.path, f"{far}, beyond eps = {eps:.4g} ({norm})")


def _check_summary(images: AdversarialSet, sizes: Sizes) -> None:
    """The sizes that the set says are those of its images."""
    summary = images.summary
    for name, kept, expected in (
        ("largest_linf", summary.largest_linf, sizes.linf.max()),
        ("largest_l2", summary.largest_l2, sizes.l2.max()),
        ("mean_l2", summary.mean_l2, sizes.l2.mean()),
    ):
        same = kept is None or math.isclose(expected, kept, rel_tol=ACCURACY, abs_tol=ACCURACY)
        if not same:
            raise damaged(images.path, f"it says {name} = {kept:.4g}, but it is {expected:.4g}")
