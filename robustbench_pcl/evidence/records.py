"""Records held against what their files cannot know: each other, and what they rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robustbench_pcl.attacks.base import attack_label, norm_of
from robustbench_pcl.evaluation.statistics import LEVEL, mcnemar
from robustbench_pcl.evidence.findings import Verification
from robustbench_pcl.evidence.stored import FOLDERS, Stored, models_of
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.progress import counted
from robustbench_pcl.recipe import ExternalModel
from robustbench_pcl.store.diagnoses import MATERIAL, RULE, Diagnosis, Verdict
from robustbench_pcl.store.records import Measurement
from robustbench_pcl.store.rules import budget_faults, model_faults
from robustbench_pcl.version import __version__

if TYPE_CHECKING:
    from robustbench_pcl.models import sources
else:
    sources = LazyModule("robustbench_pcl.models.sources")

OF_SET = (
    *("source", "attack", "data", "n", "seed", "mode", "precision", "seconds"),
    *("largest_linf", "largest_l2", "mean_l2", "forward_passes", "backward_passes"),
)
"""What a measurement says of its adversarial set."""


def check_records(found: Verification, stored: Stored) -> None:
    """Hold each record against what its file cannot know, and all against each other."""
    for name, measurement in stored.measurements.items():
        if found.sound(name):
            check_attack(found, name, measurement)
    for name, diagnosis in stored.diagnoses.items():
        if found.sound(name):
            check_diagnosis(found, name, diagnosis)
    _check_counts(found, stored)
    check_models(found, stored)
    _check_alike(found, stored)
    check_lineage(found, stored)
    check_versions(found, stored)


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
    sizes = {"linf": record.largest_linf, "l2": record.largest_l2}
    check_budget(found, name, record.attack, norm_of(record.attack), sizes)


def check_budget(
    found: Verification,
    name: str,
    attack: Mapping[str, Any],
    norm: str,
    sizes: Mapping[str, float | None],
) -> None:
    """Note where images are beyond the budget; see :func:`budget_faults`."""
    for fault in budget_faults(attack, norm, sizes):
        found.wrong(name, *fault)


def check_diagnosis(found: Verification, name: str, record: Diagnosis) -> None:
    """Labels and norm are the attacks' own, and the rule allows the verdict."""
    found.compare(name, "label", attack_label(record.attack), record.label)
    found.compare(name, "norm", norm_of(record.attack), record.norm)
    for each in record.competence:
        found.compare(name, "label of a competence", attack_label(each.attack), each.label)
    if record.rule != RULE:
        found.skip(f"Verdicts by rule {record.rule} of diagnoses: this pclbench knows {RULE}.")
    else:
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
            for fault in model_faults(model):
                found.wrong(name, *fault)
        elif model.checkpoint in data:
            expected = recipe.id(data[model.checkpoint])
            found.compare(name, f"checkpoint of {recipe.name}", expected, model.checkpoint)
        else:
            found.skip("The ids of {}: their training records are not here.", recipe.name)


def _check_alike(found: Verification, stored: Stored) -> None:
    """Measurements on one adversarial set say the same of it."""
    first: dict[str, Measurement] = {}
    for name, each in stored.measurements.items():
        if each.adversarial_set is not None:
            other = first.setdefault(each.adversarial_set, each)
            for what in OF_SET:
                expected = getattr(other, what)
                found.compare(name, f"{what} (in {other.id})", expected, getattr(each, what))


def check_lineage(found: Verification, stored: Stored) -> None:
    """Say what is not here of that which the artefacts were made from, or has become another."""
    models = [each.record for each in stored.checkpoints.values()]
    here = {(model.checkpoint, model.weights) for model in models}
    known = {model.checkpoint for model in models}
    for _, model in models_of(stored):
        if model.weights and (model.checkpoint, model.weights) not in here:
            others = ", but others of the same recipe are" if model.checkpoint in known else ""
            about = model.recipe.name
            found.skip(f"What the weights of {{}} answer: they are not here{others}.", about)
    trained = {(each.checkpoint, each.weights) for each in stored.trainings.values()}
    data = {each.checkpoint: each.data.digest for each in stored.trainings.values()}
    for model in models:
        recipe = model.recipe
        if isinstance(recipe, ExternalModel):
            if not found.digest and recipe.folder and not _has_its_code(recipe):
                found.skip("The code of {}, which is gone or has changed since.", recipe.name)
            continue
        if model.checkpoint in data and (model.checkpoint, model.weights) not in trained:
            found.skip("The trainings of {}: the records are of other weights.", recipe.name)
        start = recipe.start
        if start and model.checkpoint in data and start.id(data[model.checkpoint]) not in known:
            about = f"{recipe.name} ({start.name})"
            found.skip("The models that trainings began with, not here: of {}.", about)
    _check_images(found, stored)
    if stored.embeddings:
        found.skip("Where points of embeddings lie, but for their digests.")
    if stored.trainings:
        found.skip("How trainings went, but for their records' digests: that takes training again.")
    if stored.unsealed:
        found.skip(
            f"Seconds, passes and dates of {counted(stored.unsealed, 'record')} from the time "
            "before records had digests."
        )


def _has_its_code(model: ExternalModel) -> bool:
    """Whether the code that an external model was brought in with lies where it was; not run."""
    return sources.code_digest(Path(model.folder), model.files) == model.code


def _check_images(found: Verification, stored: Stored) -> None:
    """Say where the images of this machine are others than those that a number rests on."""
    for record in stored.judged.values():
        made_elsewhere = isinstance(record, Measurement) and record.attack and not record.source
        data = record.data
        if data.dataset in stored.datasets and not stored.dataset_of(data) and not made_elsewhere:
            about = f"{data.digest} of {data.dataset}"
            found.skip("What rests on the clean images {}: those here are others.", about)
    for training in stored.trainings.values():
        dataset = stored.datasets.get(training.data.dataset)
        if dataset and dataset.train.digest != training.data.digest:
            found.skip("The training images of {}: those here are others.", training.recipe.name)
    for embedding in stored.embeddings.values():
        name = embedding.spec.adversarial_set
        if name and f"{FOLDERS.adversarial_sets.as_posix()}/{name}.h5" not in stored.sets:
            found.skip("What embeddings show under attack: their adversarial sets are not here.")


def check_versions(found: Verification, stored: Stored) -> None:
    """Say how much was made by other versions of pclbench."""
    records = (*stored.judged.values(), *stored.trainings.values())
    environments = [each.environment for each in records]
    environments += [each.record.environment for each in stored.embeddings.values()]
    environments += [each.images.summary.environment for each in stored.sets.values()]
    for version, count in sorted(Counter(each.pclbench for each in environments).items()):
        if version != __version__:
            found.skip(
                f"Whether pclbench {__version__} would make the same. Made by {version}: "
                f"{count:,} of {counted(len(environments), 'artefact')}."
            )
