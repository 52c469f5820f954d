"""Every number of an adversarial set recomputed, as far as the clean images are here."""

from __future__ import annotations

import math
from pathlib import PurePosixPath

import numpy as np

from robustbench_pcl.attacks.base import norm_of
from robustbench_pcl.attacks.stages import WITHSTOOD, WRONG, in_hexadecimal
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.checked import ACCURACY, Array, CheckedSet, are_clean_images
from robustbench_pcl.evaluation.imported import NO_CLASS
from robustbench_pcl.evidence.findings import Verification
from robustbench_pcl.evidence.records import OF_SET, check_budget
from robustbench_pcl.evidence.stored import Stored
from robustbench_pcl.progress import Progress, tracked
from robustbench_pcl.store.adversarial_sets import perturbation_sizes
from robustbench_pcl.store.records import Measurement


def check_sets(found: Verification, stored: Stored, progress: Progress) -> None:
    """Hold each set against itself and its clean images, and what was measured against it."""
    sets, undigested = stored.sets.values(), 0
    for checked in tracked(sets, "pixels of adversarial sets", len(sets), progress):
        check_set(found, checked, stored)
        undigested += checked.images.summary.content_digest is None
    if undigested:
        found.skip(
            f"Labels and predictions of {undigested} adversarial sets by a digest: they were made "
            "before sets had one of these."
        )
    for name, measurement in stored.measurements.items():
        checked_set = stored.set_of(measurement)
        if checked_set is not None and found.sound(name):
            check_measured(found, name, measurement, checked_set)
        elif measurement.adversarial_set is not None and checked_set is None:
            found.skip("Pixels, perturbations and costs of adversarial sets that are not here.")


def check_set(found: Verification, checked: CheckedSet, stored: Stored) -> None:
    """Id, digest, pixels, labels, verdicts of stages, and perturbations."""
    name, images = checked.name, checked.images
    spec = images.spec
    found.compare(name, "the file's name", spec.id, PurePosixPath(name).stem)
    if spec.source is not None:
        found.compare(name, "indices", list(range(spec.n)), checked.indices.tolist())
    classes = len(dataset_spec(spec.data.dataset).classes)
    known = bool(((checked.labels >= 0) & (checked.labels < classes)).all())
    found.require(name, "a label", known, f"0 to {classes - 1}", "another")
    found.compare(name, "norm", norm_of(spec.attack), spec.norm)
    _check_stages(found, checked)
    dataset = stored.datasets.get(spec.data.dataset)
    clean = clean_images(dataset, checked) if dataset else None
    if clean is None and any(map(stored.dataset_of, stored.data_of(spec.data.dataset))):
        found.wrong(name, "indices", f"those of images {spec.data.digest}", "others")
    elif clean is None:
        found.skip(
            f"Labels and perturbations of {{}}: {spec.data.dataset} as it was attacked is not here "
            f"(pclbench data add {spec.data.dataset} FILE).",
            name,
        )
    sizes: list[Array] = []
    try:
        for rows, block in checked.blocks():
            if clean is not None:
                sizes.append(np.stack(perturbation_sizes(block, clean[rows])))
    except UserError as error:
        found.wrong(name, "images", "those that were stored", error.cause)
        return
    if dataset is not None and clean is not None:
        labels = np.asarray(dataset.test.labels)[checked.indices]
        found.compare(name, "labels", labels.tolist(), checked.labels.tolist())
        _check_sizes(found, checked, *np.concatenate(sizes, axis=1))


def clean_images(dataset: Dataset, checked: CheckedSet) -> Array | None:
    """The clean images of a set, uint8 (N, C, H, W); None where these are other ones."""
    same = are_clean_images(dataset, checked.images.spec.data.digest, checked.indices)
    return np.asarray(dataset.test.images[checked.indices]) if same else None


def _check_stages(found: Verification, checked: CheckedSet) -> None:
    """A stage felled exactly those that the source has wrong, but for those wrong when clean."""
    spec, felled = checked.images.spec, checked.felled_by
    if spec.source is None:  # crafted elsewhere: nobody was asked
        asked = np.flatnonzero(checked.predictions != NO_CLASS)[:10].tolist()
        found.compare(checked.name, "images with a prediction of an unknown source", [], asked)
        return
    right = checked.predictions == checked.labels
    last = max(len(checked.images.stages), 1)
    known = (felled >= WRONG) & (felled < last)
    differ = np.flatnonzero(((felled == WITHSTOOD) != right) | ~known)
    what = "images whose felled_by contradicts their prediction"
    found.compare(checked.name, what, [], differ[:10].tolist())


def _check_sizes(found: Verification, checked: CheckedSet, linf: Array, l2: Array) -> None:
    """The perturbations of the summary, and that each image is within the budget."""
    name, summary, spec = checked.name, checked.images.summary, checked.images.spec
    recomputed = {
        "largest_linf": float(linf.max()),
        "largest_l2": float(l2.max()),
        "mean_l2": float(l2.mean()),
    }
    for what, expected in recomputed.items():
        kept = getattr(summary, what)
        if kept is not None:
            same = math.isclose(expected, kept, rel_tol=ACCURACY, abs_tol=ACCURACY)
            found.require(name, what, same, expected, kept)
    largest = {"linf": recomputed["largest_linf"], "l2": recomputed["largest_l2"]}
    check_budget(found, name, spec.attack, spec.norm, largest)
    moved = np.flatnonzero((checked.felled_by == WRONG) & (linf > 0))
    found.compare(name, "changed images that were wrong when clean", [], moved[:10].tolist())


def check_measured(
    found: Verification, name: str, measurement: Measurement, checked: CheckedSet
) -> None:
    """What a measurement says of its images is what their set says."""
    spec, summary = checked.images.spec, checked.images.summary
    for what in OF_SET:
        about = spec if what in type(spec).model_fields else summary
        found.compare(name, what, getattr(about, what), getattr(measurement, what))
    source = spec.source
    if not found.sound(name) or source is None or source.key != measurement.target.key:
        return
    right = checked.predictions == checked.labels
    differ = np.flatnonzero(right != measurement.withstood()).tolist()
    found.compare(name, "images whose verdict is not the set's", [], differ[:10])
    found.compare(name, "stages", checked.images.stages, measurement.stages)
    expected = in_hexadecimal(checked.felled_by) if checked.images.stages else ""
    found.compare(name, "felled_by", expected, measurement.felled_by)
