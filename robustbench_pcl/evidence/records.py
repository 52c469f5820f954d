"""Records held against themselves and each other: ids, counts, verdicts, intervals, budgets."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from pydantic import ValidationError

from robustbench_pcl.attacks.base import attack_label, norm_of
from robustbench_pcl.data.foreign import ROUNDING
from robustbench_pcl.diagnosis.evidence import MATERIAL
from robustbench_pcl.evaluation.statistics import LEVEL, mcnemar
from robustbench_pcl.evidence.findings import Verification
from robustbench_pcl.evidence.stored import Stored, models_of
from robustbench_pcl.recipe import ExternalModel
from robustbench_pcl.store.adversarial_sets import SetSpecification
from robustbench_pcl.store.certificates import METHOD, Certificate, certificate_id
from robustbench_pcl.store.diagnoses import CODES, RULE, Diagnosis, Verdict, diagnosis_id
from robustbench_pcl.store.records import (
    MARGIN_PERCENTILES,
    Measurement,
    TrainingRecord,
    measurement_id,
    wilson,
)

MOST_IMAGES = 10**7
OF_SET = (
    *("source", "attack", "data", "n", "seed", "mode", "precision", "seconds"),
    *("largest_linf", "largest_l2", "mean_l2", "forward_passes", "backward_passes"),
)
"""What a measurement says of its adversarial set."""


def check_records(found: Verification, stored: Stored) -> None:
    """Hold each record against itself, and all against each other."""
    for name, measurement in stored.measurements.items():
        check_measurement(found, name, measurement)
    for name, training in stored.trainings.items():
        check_training(found, name, training)
    for name, diagnosis in stored.diagnoses.items():
        check_diagnosis(found, name, diagnosis)
    for name, certificate in stored.certificates.items():
        check_certificate(found, name, certificate)
    _check_counts(found, stored)
    check_models(found, stored)
    _check_alike(found, stored)


def _check_counts(found: Verification, stored: Stored) -> None:
    """No record is about more images than there are."""
    for name, record in stored.judged.items():
        dataset = stored.dataset_of(record.data)
        if dataset is not None:
            most = len(dataset.test)
            found.require(name, "n", record.n <= most, f"at most {most}", record.n)


def check_measurement(found: Verification, name: str, record: Measurement) -> None:
    """Id, set's id, counts, verdicts, interval and budget."""
    n, target = record.n, record.target
    if not found.require(name, "n", 0 < n <= MOST_IMAGES, "a number of images", n):
        return
    found.compare(name, "the file's name", f"{record.id}.json", PurePosixPath(name).name)
    images: dict[str, str | int] = {"data": record.data.digest, "n": n}
    if record.adversarial_set is not None:
        images = {"set": record.adversarial_set}
    found.compare(name, "id", measurement_id(target, **images), record.id)
    bits = _bits(record.verdicts, n)
    if bits is None:
        found.wrong(name, "verdicts", f"{n} bits, then zeros", record.verdicts)
        return
    found.compare(name, "correct", bits.count("1"), record.correct)
    found.compare(name, "interval", wilson(bits.count("1"), n), record.interval)
    rounded = record.correct_8bit
    if rounded is not None:
        found.require(name, "correct_8bit", 0 <= rounded <= n, f"0 to {n}", rounded)
    if record.mode == "early-stop":
        found.compare(name, "correct_8bit", None, rounded)
    if record.felled_by:
        _check_fellings(found, name, record, bits)
    else:
        found.compare(name, "stages", (), record.stages)
    margins = record.margins
    known = len(margins) in (0, 0 if record.attack else len(MARGIN_PERCENTILES))
    rising = known and list(margins) == sorted(margins)
    found.require(name, "margins", rising, f"percentiles {MARGIN_PERCENTILES}", margins)
    if record.attack is None:
        _check_clean(found, name, record)
    else:
        _check_attacked(found, name, record)


def _bits(verdicts: str, n: int) -> str | None:
    """Verdicts as n characters 0 and 1; None where they are no such thing, or padded by others."""
    digits = 2 * ((n + 7) // 8)
    if len(verdicts) != digits or set(verdicts) - set("0123456789abcdef"):
        return None
    bits = f"{int(verdicts, 16):0{4 * digits}b}"
    return None if "1" in bits[n:] else bits[:n]


def _check_fellings(found: Verification, name: str, record: Measurement, bits: str) -> None:
    """An image withstood exactly if no stage felled it and it was right when clean."""
    try:
        codes = bytes.fromhex(record.felled_by)
    except ValueError:
        codes = b""
    if not found.compare(name, "images in felled_by", record.n, len(codes)):
        return
    differ = [place for place, bit in enumerate(bits) if (codes[place] == 0) != (bit == "1")]
    found.compare(name, "images whose felled_by contradicts their verdict", [], differ[:10])
    stages = max(codes) - 1
    known = len(record.stages)
    found.require(name, "stages", stages <= known, f"at least {stages}", known)


def _check_clean(found: Verification, name: str, record: Measurement) -> None:
    """Clean images are 8-bit images, on which nothing was spent."""
    defaults = {
        **{"source": None, "adversarial_set": None, "mode": "exact", "largest_linf": 0.0},
        **{"mean_l2": 0.0, "seconds": 0.0, "forward_passes": 0, "backward_passes": 0},
        **{"correct_8bit": record.correct, "seed": record.target.recipe.seed, "felled_by": ""},
    }
    for what, expected in defaults.items():
        found.compare(name, what, expected, getattr(record, what))


def _check_attacked(found: Verification, name: str, record: Measurement) -> None:
    """The set's id is that of its description; its images are within the budget."""
    attack = record.attack
    assert attack is not None
    try:
        norm = norm_of(attack)
        described = SetSpecification(
            source=record.source,
            attack=attack,
            norm=norm,
            data=record.data,
            n=record.n,
            seed=record.seed,
            mode=record.mode,
        )
    except (KeyError, ValidationError):
        found.wrong(name, "attack", "one with a name", attack)
        return
    found.compare(name, "adversarial_set", described.id, record.adversarial_set)
    sizes = {"linf": record.largest_linf, "l2": record.largest_l2}
    check_budget(found, name, attack, norm, sizes)


def check_budget(
    found: Verification,
    name: str,
    attack: Mapping[str, Any],
    norm: str,
    sizes: Mapping[str, float | None],
) -> None:
    """No image is farther from its clean one than the attack's budget, where it has one.

    Args:
        found: where that is noted.
        name: of the file.
        attack: complete.
        norm: of the budget.
        sizes: the largest perturbation in each norm; None where that is not known.
    """
    size, eps = sizes.get(norm), attack.get("eps")
    if size is None or not isinstance(eps, int | float):
        return
    within = 0 <= size <= eps + ROUNDING
    found.require(name, f"largest_{norm}", within, f"at most {eps:g}", size)


def check_training(found: Verification, name: str, record: TrainingRecord) -> None:
    """The checkpoint's id is that of recipe and images; the median is that of the epochs."""
    expected = f"{record.checkpoint}-{record.weights}.json"
    found.compare(name, "the file's name", expected, PurePosixPath(name).name)
    found.compare(name, "checkpoint", record.recipe.id(record.data.digest), record.checkpoint)
    seconds = [entry.get("seconds") for entry in record.history]
    known = [float(each) for each in seconds if isinstance(each, int | float)]
    if known and len(known) == len(seconds):
        median = statistics.median(known)
        found.compare(name, "seconds_per_epoch", median, record.seconds_per_epoch)


def check_diagnosis(found: Verification, name: str, record: Diagnosis) -> None:
    """Id, label, code, counts and intervals follow from what was found, the verdict by the rule."""
    n = record.n
    found.compare(name, "the file's name", f"{record.id}.json", PurePosixPath(name).name)
    by_rule = record.rule == RULE
    if not by_rule:
        found.skip(f"Verdicts by rule {record.rule} of diagnoses: this pclbench knows {RULE}.")
    else:
        found.compare(name, "id", _diagnosis_id(record), record.id)
    found.compare(name, "code", CODES[record.verdict], record.code)
    found.compare(name, "label", attack_label(record.attack), record.label)
    found.compare(name, "norm", norm_of(record.attack), record.norm)
    for each in record.competence:
        found.compare(name, "label of a competence", attack_label(each.attack), each.label)
        what = f"competence of {each.label}"
        if found.require(name, what, 0 <= each.found <= each.n > 0, "a share", each.found):
            found.compare(name, f"{what}, interval", wilson(each.found, each.n), each.interval)
    counts = (0, record.withstood, record.correct, record.clean, n)
    rising = list(counts) == sorted(counts) and 0 < n <= MOST_IMAGES
    if found.require(name, "counts", rising, "withstood <= correct <= clean <= n", counts[1:]):
        found.compare(name, "interval", wilson(record.withstood, n), record.interval)
        possible = possible_verdicts(record)
        fits = record.verdict in possible or not by_rule
        found.require(name, "verdict", fits, " or ".join(possible), record.verdict)


def _diagnosis_id(record: Diagnosis) -> str:
    return diagnosis_id(
        record.target,
        record.data.digest,
        record.attack,
        n=record.n,
        seed=record.seed,
        sources=record.sources,
    )


def possible_verdicts(record: Diagnosis) -> tuple[Verdict, ...]:
    """The verdicts that the rule allows with a diagnosis' counts and checks.

    Which of three reasons it is where much was missed follows from single images, which are not
    stored. See :func:`~robustbench_pcl.diagnosis.verdict.decide`.
    """
    failed = {check.points_to for check in record.checks if check.passed is False}
    if "randomised" in failed:
        return ("randomised",)
    if 100 * (record.correct - record.withstood) / record.n < MATERIAL:
        doubted = "not enough evidence" in failed and 100 * record.correct / record.n >= MATERIAL
        return ("not enough evidence",) if doubted else ("holds",)
    images = np.arange(record.n)
    if mcnemar(images < record.correct, images < record.withstood) >= LEVEL:
        return ("not enough evidence",)
    return ("attack too weak", "saturated", "flat or rugged")


def check_certificate(found: Verification, name: str, record: Certificate) -> None:
    """For each image, what is certified is not fooled within."""
    found.compare(name, "the file's name", f"{record.id}.json", PurePosixPath(name).name)
    expected = certificate_id(
        record.target, record.data.digest, n=record.n, largest_eps=record.largest_eps
    )
    found.compare(name, "id", expected, record.id)
    found.compare(name, "method", METHOD, record.method)
    found.compare(name, "certified radii", record.n, len(record.certified))
    found.compare(name, "fooling radii", record.n, len(record.fooling))
    for image, (certified, fooling) in enumerate(
        zip(record.certified, record.fooling, strict=False)
    ):
        most = record.largest_eps if fooling is None else fooling
        if not 0 <= certified <= most:
            found.wrong(name, f"certified radius of image {image}", f"0 to {most:g}", certified)


def check_models(found: Verification, stored: Stored) -> None:
    """Each model's id is that of its recipe and training images, or of its code and weights."""
    data = {each.checkpoint: each.data.digest for each in stored.trainings.values()}
    for name, model in models_of(stored):
        recipe = model.recipe
        if isinstance(recipe, ExternalModel):
            found.compare(name, f"checkpoint of {recipe.name}", recipe.id(), model.checkpoint)
            found.compare(name, f"weights of {recipe.name}", recipe.weights, model.weights)
        elif model.checkpoint in data:
            expected = recipe.id(data[model.checkpoint])
            found.compare(name, f"checkpoint of {recipe.name}", expected, model.checkpoint)
        else:
            found.skip(f"The id of {recipe.name}: how it was trained is not stored here.")


def _check_alike(found: Verification, stored: Stored) -> None:
    """Measurements on one adversarial set say the same of it."""
    first: dict[str, Measurement] = {}
    for name, each in stored.measurements.items():
        if each.adversarial_set is not None:
            other = first.setdefault(each.adversarial_set, each)
            for what in OF_SET:
                expected = getattr(other, what)
                found.compare(name, f"{what} (in {other.id})", expected, getattr(each, what))
