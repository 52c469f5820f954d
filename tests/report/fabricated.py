"""Records that nobody measured, for tests of how they are shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from robustbench_pcl.attacks.base import attack_label, norm_of
from robustbench_pcl.configuration import Dump, Scale, digest
from robustbench_pcl.environment import Environment
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.tables import Cell, published
from robustbench_pcl.recipe import Recipe, Schedule
from robustbench_pcl.recipes.load import load_attack, load_recipe
from robustbench_pcl.report.results import Evidence, measurement_frame, training_frame
from robustbench_pcl.store.certificates import Certificate, certificate_id
from robustbench_pcl.store.diagnoses import (
    CODES,
    Check,
    Competence,
    Diagnosis,
    Verdict,
    diagnosis_id,
)
from robustbench_pcl.store.embeddings import Embedding
from robustbench_pcl.store.records import DataRecord, Measurement, ModelRecord, TrainingRecord
from robustbench_pcl.store.rules import measurement_id, set_id, wilson

ENVIRONMENT = Environment(
    pclbench="0.2.0",
    python="3.11.9",
    torch="2.6.0",
    platform="Linux x86_64",
    device="CPU",
    threads=2,
)


def make_attack(
    name: str = "pgd", dataset: str = "cifar10", scale: Scale = "quick", **parameters: Any
) -> Dump:
    """A complete attack as it is stored, with eps 0.03 as in Table 3."""
    budget = {} if name == "cw" else {"eps": 0.03}
    return load_attack(name, dataset, scale, {**budget, **parameters}).dump()


def make_recipe(
    name: str = "ours", dataset: str = "cifar10", scale: Scale = "quick", **changes: Any
) -> Recipe:
    """The paper's recipe, cut to a quarter of its width, 8000 images and 12 epochs."""
    try:
        paper = load_recipe(name, dataset, "paper")
    except UserError:
        paper = load_recipe("ours", dataset, "paper")
    cut: dict[str, Any] = {
        "name": name,
        "scale": scale,
        "width": 0.25,
        "train_images": 8000,
        "schedule": Schedule(epochs=12),
        "start": None,
    }
    return paper.changed(**{**cut, **changes})


def make_model(name: str = "ours", weights: str = "", **changes: Any) -> ModelRecord:
    recipe = make_recipe(name, **changes)
    weights = weights or digest([name, recipe.dataset, recipe.scale, recipe.seed])
    identity = recipe.id(f"{recipe.dataset}-train")
    return ModelRecord(checkpoint=identity, weights=weights, recipe=recipe)


def make_data(dataset: str = "cifar10", **changes: Any) -> DataRecord:
    return DataRecord(
        **{"dataset": dataset, "digest": f"{dataset}-test", "source": "torchvision", **changes}
    )


def packed(verdicts: Sequence[bool]) -> str:
    """Verdicts as the evidence stores them: one bit per image, whole bytes, hexadecimal."""
    bits = "".join("1" if verdict else "0" for verdict in verdicts)
    bits += "0" * (-len(bits) % 8)
    return f"{int(bits, 2):0{len(bits) // 4}x}"


def right(bits: str) -> list[bool]:
    """Which images are classified as their label: "110" is the first two."""
    return [bit == "1" for bit in bits]


def make_measurement(
    target: ModelRecord | None = None,
    source: ModelRecord | None = None,
    attack: Dump | None = None,
    correct: int = 500,
    n: int = 1000,
    **changes: Any,
) -> Measurement:
    target = target or make_model()
    verdicts = changes.pop("right", [index < correct for index in range(n)])
    n, correct = len(verdicts), sum(verdicts)
    eps = attack.get("eps", 0.5) if attack else 0.0  # C&W has no L-infinity budget
    mode = changes.get("mode", "exact")
    data, seed = make_data(target.recipe.dataset), 0 if attack else target.recipe.seed
    data, seed = changes.get("data", data), changes.get("seed", seed)
    images: dict[str, Any] = {"data": data.digest, "n": n}
    adversarial_set = None
    if attack:
        adversarial_set = set_id(source, attack, data.digest, n=n, seed=seed, mode=mode)
        images = {"set": adversarial_set}
    fields: dict[str, Any] = {
        "id": measurement_id(target, **images),
        "data": data,
        "adversarial_set": adversarial_set,
        "largest_linf": eps,
        "interval": wilson(correct, n),
        "verdicts": packed(verdicts),
        "seconds": 1.0 if attack else 0.0,
        "forward_passes": n if attack else 0,
        "backward_passes": n if attack else 0,
        "seed": seed,
        "environment": ENVIRONMENT,
        "created": "2025-01-01T00:00:00+00:00",
        "correct_8bit": None if mode == "early-stop" else correct,
    }
    return Measurement(
        target=target, source=source, attack=attack, n=n, correct=correct, **{**fields, **changes}
    )


def make_training(
    recipe: Recipe | None = None, seconds: float = 2.5, **changes: Any
) -> TrainingRecord:
    recipe = recipe or make_recipe()
    model = make_model(recipe.name, dataset=recipe.dataset, scale=recipe.scale, seed=recipe.seed)
    fields: dict[str, Any] = {
        "checkpoint": recipe.id(f"{recipe.dataset}-train"),
        "weights": model.weights,
        "data": make_data(recipe.dataset, digest=f"{recipe.dataset}-train"),
        "seconds_per_epoch": seconds,
        "history": [
            {"epoch": epoch, "cross_entropy": 2 / epoch, "training_accuracy": 1 - 0.8 / epoch}
            for epoch in range(1, recipe.schedule.epochs + 1)
        ],
        "environment": ENVIRONMENT,
        "created": "2025-01-01T00:00:00+00:00",
    }
    return TrainingRecord(recipe=recipe, **{**fields, **changes})


def make_certificate(
    target: ModelRecord | None = None,
    radii: Sequence[tuple[float, float | None]] = ((0.0, 0.0), (0.01, 0.05), (0.04, None)),
    **changes: Any,
) -> Certificate:
    """A certificate of as many images as there are pairs of a certified and a fooling radius."""
    target = target or make_model()
    certified, fooling = zip(*radii, strict=True)
    data = changes.get("data", make_data(target.recipe.dataset))
    largest = changes.get("largest_eps", 0.06)
    fields: dict[str, Any] = {
        "id": certificate_id(target, data.digest, n=len(radii), largest_eps=largest),
        "data": data,
        "method": "crown",
        "largest_eps": largest,
        "found_by": "bisection by PGD",
        "reason": "",
        "seconds": 1.0,
        "environment": ENVIRONMENT,
        "created": "2025-01-01T00:00:00+00:00",
    }
    return Certificate(
        target=target,
        n=len(radii),
        certified=certified,
        fooling=fooling,
        **{**fields, **changes},
    )


def make_answers(
    number: int, datasets: Sequence[str], n: int = 1000
) -> list[Measurement | TrainingRecord]:
    """An answer to every cell of a table, no two with the same value, in no order."""
    cells = [p.cell for name in datasets for p in published(number).positions(name)]
    values = [round(1 + 97 * (29 * k % len(cells)) / len(cells), 1) for k in range(len(cells))]
    assert len(set(values)) == len(cells)
    answers: list[Measurement | TrainingRecord] = []
    runs: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for cell, value in zip(cells, values, strict=True):
        if cell.quantity == "accuracy":
            answers.append(make_answer(cell, value, n))
        else:
            runs[cell.dataset, cell.target][cell.quantity] = value
    for (dataset, target), figures in runs.items():
        schedule = Schedule(epochs=round(figures["epochs"]))
        recipe = make_recipe(target, dataset, schedule=schedule)
        answers.append(make_training(recipe, figures["seconds_per_epoch"]))
    return answers


def make_answer(cell: Cell, value: float, n: int = 10_000) -> Measurement | TrainingRecord:
    """The record that answers ``cell`` with ``value``: per cent, seconds or epochs."""
    if cell.quantity != "accuracy":
        schedule = Schedule(epochs=round(value) if cell.quantity == "epochs" else 12)
        recipe = make_recipe(cell.target, cell.dataset, schedule=schedule)
        return make_training(recipe, seconds=value)
    source = make_model(cell.source, dataset=cell.dataset) if cell.source else None
    attack = cell.attack_for("quick")
    target = make_model(cell.target, dataset=cell.dataset)
    dump = attack and attack.dump()
    return make_measurement(target, source, dump, correct=round(value * n / 100), n=n)


CHECKS = (
    Check(
        code="PCL201",
        name="iterative beats single-step",
        passed=True,
        points_to="attack too weak",
        measured={"PGD": 68.0, "FGSM": 74.5},
        n=200,
        threshold="no image more than by chance",
        sentence="PGD leaves 68.0 %, FGSM 74.5 %.",
    ),
    Check(
        code="PCL204",
        name="the loss does not saturate",
        passed=False,
        points_to="saturated",
        measured={"subnormal gradients": 91.0, "median margin": 212.4},
        n=200,
        threshold="10 % of the images, since so many change the first digit",
        sentence="91.0 % of the images have a loss gradient that float32 cannot hold.",
    ),
    Check(
        code="PCL209",
        name="transfer does not beat white-box",
        passed=None,
        measured={},
        n=0,
        threshold="no image more than by chance",
        sentence="No other model was named with --source.",
    ),
)
"""One that passed, one that failed and one that could not be told."""


def make_diagnosis(
    target: ModelRecord | None = None,
    attack: Dump | None = None,
    verdict: Verdict = "saturated",
    **changes: Any,
) -> Diagnosis:
    """A diagnosis of PGD on a model: 98 % clean, 68 % under PGD, 1 % under everything.

    Where PGD's number holds, 66 % withstand everything.
    """
    withstood = 132 if verdict == "holds" else 2
    target, attack = target or make_model(), attack or make_attack()
    data = changes.get("data", make_data(target.recipe.dataset))
    asked = {"n": 200, "seed": 0, "sources": ()}
    asked |= {name: changes[name] for name in asked.keys() & changes.keys()}
    fields: dict[str, Any] = {
        "id": diagnosis_id(target, data.digest, attack, **asked),
        "data": data,
        "label": attack_label(attack),
        "norm": norm_of(attack),
        "eps": attack["eps"],
        "n": 200,
        "seed": 0,
        "code": CODES[verdict],
        "sentence": "PGD leaves 68.0 %, but MIFPE leaves 1.0 %: the loss saturates.",
        "clean": 196,
        "correct": 136,
        "withstood": withstood,
        "interval": wilson(withstood, 200),
        "checks": CHECKS,
        "competence": (
            Competence(
                attack=attack,
                label=attack_label(attack),
                found=23,
                n=200,
                interval=wilson(23, 200),
            ),
        ),
        "seconds": 12.5,
        "environment": ENVIRONMENT,
        "created": "2025-01-01T00:00:00+00:00",
    }
    return Diagnosis(target=target, attack=attack, verdict=verdict, **{**fields, **changes})


def make_evidence(
    records: Iterable[Measurement | TrainingRecord | Diagnosis | Certificate],
    embeddings: Sequence[Embedding] = (),
) -> Evidence:
    """The records as if they had been stored, oldest first."""
    ordered = sorted(records, key=lambda record: record.created)
    diagnoses = [record for record in ordered if isinstance(record, Diagnosis)]
    measurements = [record for record in ordered if isinstance(record, Measurement)]
    return Evidence(
        measurement_frame(measurements, diagnoses),
        training_frame([record for record in ordered if isinstance(record, TrainingRecord)]),
        embeddings,
        diagnoses,
        [record for record in ordered if isinstance(record, Certificate)],
    )
