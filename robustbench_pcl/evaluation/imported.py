"""Adversarial images that were crafted elsewhere: held against the clean ones, and stored."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustbench_pcl.attacks.base import Norm
from robustbench_pcl.configuration import ID_LENGTH, Dump, parse_eps, parse_radius
from robustbench_pcl.data.dataset import Dataset, Split, split_digest
from robustbench_pcl.data.foreign import ForeignImages, read_foreign
from robustbench_pcl.environment import current_environment
from robustbench_pcl.errors import UserError
from robustbench_pcl.store.adversarial_sets import (
    BLOCK,
    AdversarialSet,
    SetSpecification,
    find_set,
    perturbation_sizes,
    write_set,
)
from robustbench_pcl.store.records import DataRecord
from robustbench_pcl.store.rules import ROUNDING

if TYPE_CHECKING:
    from torch import device as Device

Array = np.ndarray[Any, Any]

IMPORTED = "imported"
"""The name of the attack that made them, which is not known."""
NO_CLASS = -1
"""The answer of a source that is not known."""
PROBES = 8
"""Images too far from their own clean one whose nearest clean one is looked for."""
CHUNK = 1000


@dataclass(frozen=True)
class Budget:
    """How far adversarial images may be from the clean ones.

    Attributes:
        norm: "linf" or "l2".
        eps: in pixels of [0, 1].
    """

    norm: Norm
    eps: float


def read_budget(dataset: Dataset, norm: Norm, eps: str | float | None) -> Budget:
    """A budget as a user writes it; without eps, the paper's for the data set.

    Raises:
        UserError: eps is no budget, or there is none for an L2 norm.
    """
    if eps is None and norm == "l2":
        cause = f"There is no usual L2 budget for {dataset.spec.title}."
        raise UserError(cause, "Name one: --norm l2 --eps 0.5.")
    parse = parse_eps if norm == "linf" else parse_radius
    return Budget(norm, dataset.spec.eps if eps is None else parse(eps))


def import_images(
    path: Path, dataset: Dataset, budget: Budget, folder: Path, device: Device
) -> AdversarialSet:
    """Store the adversarial images of a file, once they are known to be what they should be.

    They are images of the test split: of those that the file's indices name, else the first ones.
    Their source is not known; every measurement on them is one of images crafted elsewhere.

    Args:
        path: HDF5, .npz, .npy, .pt, .pth or .safetensors.
        dataset: the clean images.
        budget: that they were made with.
        folder: of the stored sets.
        device: of the workspace, for the record.

    Raises:
        UserError: the file cannot be read, or its images are out of range, out of order, farther
            from the clean images than the budget, or have other labels.
    """
    foreign = read_foreign(path, dataset.spec.shape, len(dataset.test))
    positions = _positions(path, foreign, len(dataset.test))
    order = np.argsort(positions)
    positions, images = positions[order], foreign.images[order]
    clean, labels = dataset.test.images[positions], dataset.test.labels[positions]
    _check_distances(images, positions, dataset, budget)
    if foreign.labels is not None:
        _check_labels(path, foreign.labels[order], labels, positions)
    attack: Dump = {"name": IMPORTED, "eps": budget.eps, "file": path.name, "digest": _digest(path)}
    if budget.norm != "linf":
        attack["norm"] = budget.norm
    specification = SetSpecification(
        source=None,
        attack=attack,
        norm=budget.norm,
        data=_record(dataset, positions),
        n=len(images),
        seed=0,
        mode="exact",
    )
    answers = np.full(len(images), NO_CLASS)
    return find_set(folder, specification.id) or write_set(
        folder,
        specification,
        np.split(images, range(BLOCK, len(images), BLOCK)),
        clean,
        columns={"indices": positions, "labels": labels, "predictions": answers},
        seconds=0.0,
        forward_passes=0,
        backward_passes=0,
        environment=current_environment(device),
        precision="unknown",
    )


def _positions(path: Path, foreign: ForeignImages, most: int) -> Array:
    """Which clean image each was made from, int64 (N,).

    Raises:
        UserError: an index is not in the split, or is there twice.
    """
    if foreign.indices is None:
        return np.arange(len(foreign.images))
    positions = foreign.indices
    cure = "Store the position of each image in the test split, from 0, once."
    if positions.min() < 0 or positions.max() >= most:
        found = f"{positions.min()} to {positions.max()}"
        raise UserError(f"The indices in {path} are {found}, not 0 to {most - 1}.", cure)
    values, counts = np.unique(positions, return_counts=True)
    if len(values) < len(positions):
        raise UserError(f"Index {values[counts > 1][0]} is in {path} more than once.", cure)
    return positions


def _check_distances(images: Array, positions: Array, dataset: Dataset, budget: Budget) -> None:
    """Each image is as near to its own clean image as the budget says.

    Raises:
        UserError: they are not, or they would be in another order.
    """
    sizes = _sizes(images, dataset.test.images[positions], budget)
    far = np.flatnonzero(sizes > budget.eps + ROUNDING)
    if not len(far):
        return
    probed = far[:PROBES]
    nearest = np.array([_nearest(images[row], dataset.test, budget) for row in probed])
    if (nearest >= 0).all():
        shift = nearest - positions[probed]
        start = f"the file starts at test image {shift[0]}" if len({*shift}) == 1 else ""
        place = f"image {positions[probed[0]]} is near test image {nearest[0]}"
        raise UserError(
            f"The order differs: {start or place}. Images that are not near their own: "
            f"{len(far):,} of {len(images):,}.",
            "Store each image's position in the test split, from 0, as `indices` beside them.",
        )
    worst = int(sizes.argmax())
    needed = math.ceil((sizes[worst] - ROUNDING) * 1e4) / 1e4
    raise UserError(
        f"Images farther from the clean ones than eps = {budget.eps:g} ({budget.norm}): "
        f"{len(far):,} of {len(images):,}. Test image {positions[worst]} is {needed:g} away.",
        f"Were they made with that budget, write --eps {needed:g}; else they were made from other "
        "images.",
    )


def _sizes(images: Array, clean: Array, budget: Budget) -> Array:
    """How far images are from the clean ones in the budget's norm, float64 (N,)."""
    blocks = (slice(start, start + CHUNK) for start in range(0, len(images), CHUNK))
    found = [perturbation_sizes(images[rows], clean[rows]) for rows in blocks]
    return np.concatenate([getattr(each, budget.norm) for each in found])


def _nearest(image: Array, split: Split, budget: Budget) -> int:
    """The clean image within the budget of an adversarial one, or -1."""
    for start in range(0, len(split), CHUNK):
        clean = split.images[start : start + CHUNK]
        sizes = _sizes(np.broadcast_to(image, clean.shape), clean, budget)
        if sizes.min() <= budget.eps + ROUNDING:
            return start + int(sizes.argmin())
    return -1


def _check_labels(path: Path, found: Array, labels: Array, positions: Array) -> None:
    differ = np.flatnonzero(found != labels)
    if len(differ):
        first = differ[0]
        raise UserError(
            f"Labels in {path} that are not the data set's: {len(differ):,} of {len(labels):,}. "
            f"Test image {positions[first]} is {labels[first]}, not {found[first]}.",
            "Store the true labels, not predicted ones or targets, or leave them out.",
        )


def _record(dataset: Dataset, positions: Array) -> DataRecord:
    """The clean images behind a set: the first of the split, or those at some positions."""
    record = dataset.record("test")
    if np.array_equal(positions, np.arange(len(positions))):
        return record
    test = dataset.test
    chosen = f"{len(positions):,} chosen test images"
    return record.changed(
        digest=split_digest(test.images[positions], test.labels[positions]),
        subset=True,
        note="; ".join(filter(None, (record.note, chosen))),
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:ID_LENGTH]
