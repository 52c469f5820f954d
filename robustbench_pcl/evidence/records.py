"""Records held against themselves and each other: ids, counts, verdicts, intervals, budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from robustbench_pcl.attacks.base import attack_label, norm_of
from robustbench_pcl.diagnosis.evidence import MATERIAL
from robustbench_pcl.evaluation.statistics import LEVEL, mcnemar
from robustbench_pcl.evidence.findings import Verification
from robustbench_pcl.evidence.stored import Stored, models_of
from robustbench_pcl.recipe import ExternalModel
from robustbench_pcl.store.diagnoses import RULE, Diagnosis, Verdict
from robustbench_pcl.store.records import Measurement
from robustbench_pcl.store.rules import budget_faults

MOST_IMAGES = 10**7
OF_SET = (
    *("source", "attack", "data", "n", "seed", "mode", "precision", "seconds"),
    *("largest_linf", "largest_l2", "mean_l2", "forward_passes", "backward_passes"),
)
"""What a measurement says of its adversarial set."""


def check_records(found: Verification, stored: Stored) -> None:
    """Hold each record against what its file cannot know, and all against each other."""
    for name, measurement in stored.measurements.items():
        check_attack(found, name, measurement)
    for name, diagnosis in stored.diagnoses.items():
        check_diagnosis(found, name, diagnosis)
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


def check_attack(found: Verification, name: str, record: Measurement) -> None:
    """The images are within the attack's budget, in the norm that the attack has."""
    if record.attack is None:
        return
    try:
        norm = norm_of(record.attack)
    except KeyError:
        found.wrong(name, "attack", "one with a name", record.attack)
        return
    sizes = {"linf": record.largest_linf, "l2": record.largest_l2}
    check_budget(found, name, record.attack, norm, sizes)


def check_budget(
    found: Verification,
    name: str,
    attack: Mapping[str, Any],
    norm: str,
    sizes: Mapping[str, float | None],
) -> None:
    """Note where images are beyond the budget; see :func:`budget_faults`."""
    for fault in budget_faults(attack, norm, sizes):
        found.note(name, fault)


def check_diagnosis(found: Verification, name: str, record: Diagnosis) -> None:
    """Labels and norm are the attacks' own, and the rule allows the verdict."""
    found.compare(name, "label", attack_label(record.attack), record.label)
    found.compare(name, "norm", norm_of(record.attack), record.norm)
    for each in record.competence:
        found.compare(name, "label of a competence", attack_label(each.attack), each.label)
    if record.rule != RULE:
        found.skip(f"Verdicts by rule {record.rule} of diagnoses: this pclbench knows {RULE}.")
    elif found.sound(name):
        possible = possible_verdicts(record)
        fits = record.verdict in possible
        found.require(name, "verdict", fits, " or ".join(possible), record.verdict)


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
