"""What a name, an id or a file means that is to be exported."""

from __future__ import annotations

import re
from pathlib import Path

from robustbench_pcl.configuration import ID_LENGTH
from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.pipeline.artefacts import Artefacts
from robustbench_pcl.report.per_image import Answered
from robustbench_pcl.store.adversarial_sets import AdversarialSet, find_set, open_set
from robustbench_pcl.store.records import Measurement, find_measurement, load_measurements
from robustbench_pcl.store.rules import measurement_id

IDENTITY = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")


def one_stored(artefacts: Artefacts, what: str) -> Answered:
    """An adversarial set with its source's answers, or a measurement with its target's.

    Args:
        artefacts: where they are.
        what: an id, or a file; a set may lie anywhere.

    Raises:
        UserError: there is no such thing, or it is damaged.
    """
    path = Path(what)
    if path.suffix == ".h5":
        return _answered(artefacts, open_set(path), None)
    if IDENTITY.fullmatch(path.stem):
        measurement = find_measurement(artefacts.paths, path.stem)
        if measurement is not None:
            return _measured(artefacts, measurement)
        images = find_set(artefacts.paths.adversarial_sets, path.stem)
        if images is not None:
            return _answered(artefacts, images, None)
    raise UserError(
        f"There is no adversarial set or measurement {what!r} in {artefacts.paths.results}.",
        "Give an id, which --format json prints (id, adversarial_set), or the file of a set.",
    )


def all_of_target(artefacts: Artefacts, target: str, dataset: str | None) -> list[Answered]:
    """Every stored measurement of a model, oldest first.

    Args:
        artefacts: where they are.
        target: the model's name.
        dataset: only those on this data set; None for all.

    Raises:
        UserError: nothing is stored of it.
    """
    stored = [
        each
        for each in load_measurements(artefacts.paths, artefacts.pass_over)
        if dataset in (None, each.data.dataset)
    ]
    found = [each for each in stored if each.target.recipe.name == target]
    if not found:
        raise unknown_name("measured model", target, {each.target.recipe.name for each in stored})
    return [_measured(artefacts, each) for each in found]


def _measured(artefacts: Artefacts, measurement: Measurement) -> Answered:
    identity = measurement.adversarial_set
    images = identity and find_set(artefacts.paths.adversarial_sets, identity)
    return _answered(artefacts, images or None, measurement)


def _answered(
    artefacts: Artefacts, images: AdversarialSet | None, measurement: Measurement | None
) -> Answered:
    """The same with the clean images, and the target's answers to them where they are stored."""
    about = images.spec if measurement is None and images else measurement
    assert about is not None
    target = about.source if measurement is None else measurement.target
    clean = None
    if target is not None:
        known = measurement_id(target, data=about.data.digest, n=about.n)
        clean = find_measurement(artefacts.paths, known)
    return Answered(artefacts.dataset(about.data.dataset), images, measurement, clean)
