"""A model on stored adversarial sets, whoever made them, and its worst case over all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import numpy as np

from robustbench_pcl.attacks.base import Norm, attack_label
from robustbench_pcl.configuration import Dump
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.errors import DamagedSetError, UserError
from robustbench_pcl.evaluation.checked import checked_batches
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.pipeline.artefacts import Artefacts
from robustbench_pcl.progress import tracked
from robustbench_pcl.store.adversarial_sets import AdversarialSet, find_set, perturbation_sizes
from robustbench_pcl.store.checkpoints import Checkpoint
from robustbench_pcl.store.records import (
    Measurement,
    ModelRecord,
    find_measurement,
    save_measurement,
)
from robustbench_pcl.store.rules import ROUNDING, measurement_id, wilson

if TYPE_CHECKING:
    from robustbench_pcl.evaluation import measure
else:
    measure = LazyModule("robustbench_pcl.evaluation.measure")

BATCH = 256
"""Images of a set that are read at once."""


@dataclass(frozen=True, eq=False)
class StoredWorstCase:
    """What a model withstands of everything that is stored within a budget.

    Attributes:
        target: the model.
        norm: of the budget.
        eps: the budget, in pixels of [0, 1].
        withstood: boolean (n,), the images that are right when clean and in every set.
        sets: how many sets that is over.
        shorter: sets within the budget that have fewer images, and so are left out.
    """

    target: ModelRecord
    norm: Norm
    eps: float
    withstood: np.ndarray[Any, np.dtype[np.bool_]]
    sets: int
    shorter: int

    @property
    def label(self) -> str:
        """What it is over."""
        budget: Dump = {"eps": self.eps} | ({"norm": self.norm} if self.norm != "linf" else {})
        sets = f"{self.sets} set{'s' * (self.sets != 1)}"
        return attack_label({"name": f"Worst case of {sets}", **budget})

    @property
    def n(self) -> int:
        """How many images."""
        return len(self.withstood)

    @property
    def accuracy(self) -> float:
        """Fraction of images that withstood everything."""
        return float(self.withstood.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the accuracy, as fractions."""
        return wilson(int(self.withstood.sum()), self.n)


def judge(artefacts: Artefacts, checkpoint: Checkpoint, images: AdversarialSet) -> Measurement:
    """The accuracy of a model on a stored set, made on it or not: found, or measured and stored.

    Raises:
        DamagedSetError: the set is not what was stored; nothing is measured.
    """
    record = checkpoint.record
    identity = measurement_id(record, set=images.spec.id)
    found = find_measurement(artefacts.paths, identity)
    if found is None:
        model, dataset = artefacts.restored(checkpoint), artefacts.dataset(record.recipe.dataset)
        found = measure.measure_set(
            identity, model, record, images, dataset=dataset, device=artefacts.device
        )
        save_measurement(artefacts.paths, found)
    return found


def worst_case(
    artefacts: Artefacts, checkpoint: Checkpoint, clean: Measurement, norm: Norm, eps: float
) -> StoredWorstCase:
    """Judge a model on every stored set within a budget, and count what withstands all of them.

    A set is within the budget if its largest perturbation is, in that norm, whatever attack made
    it, on whatever source, until whatever step: a wrong answer within the budget is one. Sets of
    other clean images, or of fewer, cannot be combined. A damaged one is named and passed over.

    Args:
        artefacts: where the sets are.
        checkpoint: of the model.
        clean: its clean accuracy, which says on which images.
        norm: of the budget.
        eps: the budget, in pixels of [0, 1].
    """
    record = checkpoint.record
    within = [
        images
        for images in _stored_sets(artefacts, clean.data.digest)
        if _size(images, norm) <= eps + ROUNDING and _is_readable(artefacts, record, images)
    ]
    fitting = [images for images in within if images.spec.n >= clean.n]
    title = f"{record.recipe.name} on {len(fitting)} stored sets"
    verdicts = []
    for images in tracked(fitting, title, len(fitting), artefacts.progress):
        with _passed_over(artefacts):
            verdicts.append(judge(artefacts, checkpoint, images).withstood()[: clean.n])
    withstood = reduce(and_, verdicts, clean.withstood())
    shorter = len(within) - len(fitting)
    return StoredWorstCase(record, norm, eps, withstood, len(verdicts), shorter)


def smallest_fooling(
    artefacts: Artefacts, checkpoint: Checkpoint, n: int
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], int]:
    """The smallest perturbations that fool a model, in the stored sets that it was measured on.

    Args:
        artefacts: where the sets are.
        checkpoint: of the model.
        n: how many test images, the first ones.

    Returns:
        L-infinity sizes, float64 (n,), NaN where none fools; and how many sets they are from.
    """
    record, dataset = checkpoint.record, artefacts.dataset(checkpoint.record.recipe.dataset)
    smallest, sets = np.full(n, np.nan), 0
    for images in _stored_sets(artefacts, dataset.test.digest):
        with _passed_over(artefacts, UserError):
            measured = find_measurement(artefacts.paths, measurement_id(record, set=images.spec.id))
            if measured is None:
                continue
            sizes = _sizes(images, dataset)[:n]
            fooling = np.where(measured.withstood()[:n], np.nan, sizes)
            smallest[: len(sizes)] = np.fmin(smallest[: len(sizes)], fooling)
            sets += 1
    return smallest, sets


def _sizes(images: AdversarialSet, dataset: Dataset) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The L-infinity perturbations of a set of the first test images, float64 (N,)."""
    start, found = 0, []
    for batch, _ in checked_batches(images, dataset, BATCH):
        clean = dataset.test.images[start : start + len(batch)]
        found.append(perturbation_sizes(batch, clean).linf)
        start += len(batch)
    return np.concatenate(found)


def _stored_sets(artefacts: Artefacts, data: str) -> Iterator[AdversarialSet]:
    """The sets of some clean images, by their digest; a damaged file is named and passed over."""
    folder = artefacts.paths.adversarial_sets
    for path in sorted(folder.glob("[!.]*.h5")):
        with _passed_over(artefacts, UserError):
            images = find_set(folder, path.stem)
            if images is not None and images.spec.data.digest == data:
                yield images


def _size(images: AdversarialSet, norm: Norm) -> float:
    """The largest perturbation; infinite where it was not kept when the set was made."""
    summary = images.summary
    largest = summary.largest_linf if norm == "linf" else summary.largest_l2
    return math.inf if largest is None else largest


@contextmanager
def _passed_over(artefacts: Artefacts, kind: type[UserError] = DamagedSetError) -> Iterator[None]:
    """Say what is passed over, and why."""
    try:
        yield
    except kind as error:
        artefacts.pass_over(error)


def _is_readable(artefacts: Artefacts, target: ModelRecord, images: AdversarialSet) -> bool:
    """Whether what is stored of a model on a set, if anything is, can be read."""
    with _passed_over(artefacts, UserError):
        find_measurement(artefacts.paths, measurement_id(target, set=images.spec.id))
        return True
    return False
