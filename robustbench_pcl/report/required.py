"""What is stored about a requirement, or the command that measures it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import attack_label
from robustbench_pcl.configuration import parse_eps
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.paper.tables import AttackRequest, Cell
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.recipes.presets import is_recipe
from robustbench_pcl.report.formatting import listed, per_cent, show_budget
from robustbench_pcl.report.requirements import (
    CERTIFIED,
    CLEAN,
    RequiredAttack,
    Requirement,
    read_attack,
)
from robustbench_pcl.report.results import CLEAN as CLEAN_LABEL
from robustbench_pcl.report.results import Evidence, Record
from robustbench_pcl.report.selection import (
    Selection,
    Subject,
    check_model,
    find_eps,
    find_subject,
)
from robustbench_pcl.report.worst_case import ENSEMBLES, TITLES, WORST_CASE, worst_case
from robustbench_pcl.store.certificates import Certificate
from robustbench_pcl.store.diagnoses import Diagnosis, Verdict
from robustbench_pcl.store.rules import wilson

Status = Literal["holds", "does not hold", "nothing measured"]
USUAL = {CLEAN: "fgsm", WORST_CASE: "strongest"}
"""An attack by which what is no attack is measured, too."""


@dataclass(frozen=True)
class Number:
    """A stored share of images.

    Attributes:
        label: what left it: "Clean", an attack as papers write it, the worst case or a method.
        share: per cent.
        interval: its 95 % Wilson interval, per cent.
        n: images.
        files: that say so, from the workspace's folder.
        verdict: on it, where that was asked for.
    """

    label: str
    share: float
    interval: tuple[float, float]
    n: int
    files: tuple[str, ...]
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Answer:
    """A requirement, and what is stored about it.

    Attributes:
        requirement: what is asked for.
        subject: the model; None where nothing is stored of it.
        eps: the budget; None of clean accuracy, and where the data set is not known.
        number: None where nothing is stored.
        command: measures it; "" where it is stored.
    """

    requirement: Requirement
    subject: Subject | None
    eps: float | None
    number: Number | None
    command: str

    @property
    def measured(self) -> float | Verdict | None:
        """The part that is required, as it is stored."""
        found = self.number
        if found is None:
            return None
        parts: dict[str, float | Verdict | None] = {
            "": found.share,
            "low": found.interval[0],
            "high": found.interval[1],
            "n": found.n,
            "verdict": found.verdict,
        }
        return parts[self.requirement.part]

    @property
    def status(self) -> Status:
        """Whether it holds; what is not measured does not hold either."""
        measured = self.measured
        if measured is None:
            return "nothing measured"
        return "holds" if self.requirement.met_by(measured) else "does not hold"


def answer(requirement: Requirement, evidence: Evidence, selection: Selection) -> Answer:
    """What is stored about a requirement.

    Raises:
        UserError: there is no such model, quantity, table or data set, or it is not plain which
            data set is meant.
    """
    subject = find_subject(evidence, requirement.target, selection)
    dataset = subject.dataset if subject else selection.dataset
    eps = find_eps(dataset, selection)
    number = None
    if subject is not None and eps is not None:
        number = _number(requirement, evidence, subject, eps)
    command = "" if number else _command(requirement, subject, selection, eps)
    shown = None if requirement.quantity == CLEAN else eps
    return Answer(requirement, subject, shown, number, command)


def doubts(answers: Sequence[Answer], evidence: Evidence) -> list[Diagnosis]:
    """What was diagnosed of each required model within the budget, where it is not "holds"."""
    asked = {(each.subject.model.key, each.eps): each.subject for each in answers if each.subject}
    found = (
        _diagnosis(evidence, subject, eps) for (_, eps), subject in asked.items() if eps is not None
    )
    doubted = {each.id: each for each in found if each and each.verdict != "holds"}
    return list(doubted.values())


def _number(
    requirement: Requirement, evidence: Evidence, subject: Subject, eps: float
) -> Number | None:
    """What is stored of a model; None if nothing is.

    Raises:
        UserError: the attack has no such loss, or there is no such source.
    """
    quantity = requirement.quantity
    if requirement.part == "verdict":
        found = _diagnosis(evidence, subject, eps, quantity)
        return _judged(found) if found else None
    if quantity == CERTIFIED:
        return _certified(evidence, subject, eps)
    rows = evidence.records.get(
        (subject.dataset, subject.model.recipe.name, subject.model.recipe.scale), []
    )
    rows = [
        row for row in rows if hasattr(row, "correct_per_image") and row.model == subject.model.key
    ]
    if quantity in (WORST_CASE, *ENSEMBLES):
        return _of_worst_case(evidence, rows, eps, quantity)
    cell = _cell(evidence, quantity, subject, eps)
    cell.attack_for(subject.model.recipe.scale)  # refuses what the attack has not
    answers = evidence.matching(cell, subject.model.recipe.scale, subject.model.recipe.seed)
    return next((_of_row(row) for row in answers if row.model == subject.model.key), None)


def _cell(evidence: Evidence, quantity: str, subject: Subject, eps: float) -> Cell:
    """The question that a quantity asks; an attack is as usual for the data set and scale."""
    target, dataset = subject.model.recipe.name, subject.dataset
    attack = read_attack(quantity)
    if attack is None:
        return Cell(dataset=dataset, target=target)
    if attack.source is not None:
        check_model(evidence, attack.source)
    bounded = "eps" in ATTACKS[attack.name].model_fields
    return Cell(
        dataset=dataset,
        target=target,
        source=attack.source or target,
        attack=AttackRequest(name=attack.name, loss=attack.loss, eps=eps if bounded else None),
    )


def _of_row(row: Record) -> Number:
    label = attack_label(row.parameters) if row.parameters else CLEAN_LABEL
    files = _files("measurements", row.id)
    return Number(label, row.accuracy, (row.low, row.high), int(row.n), files)


def _of_worst_case(
    evidence: Evidence, rows: Sequence[Record], eps: float, quantity: str
) -> Number | None:
    """What all attacks within a budget leave, or an ensemble; as tables have it."""
    case = worst_case(evidence, rows[0], eps) if rows else None
    if case is None:
        return None
    if quantity in ENSEMBLES:
        return _of_row(case.ensembles[quantity]) if quantity in case.ensembles else None
    if case.eps < eps:
        return None  # nothing had the whole budget
    files = _files("measurements", *case.measurements)
    label = f"{TITLES[WORST_CASE]}, {show_budget(eps, None)}: {listed(case.attacks)}"
    return Number(label, case.accuracy, (case.low, case.high), case.n, files)


def _certified(evidence: Evidence, subject: Subject, eps: float) -> Number | None:
    """The share of images that no perturbation within the budget fools."""
    known = [
        each
        for each in evidence.certificates
        if each.target.key == subject.model.key and each.largest_eps >= eps
    ]
    if not known:
        return None
    newest: Certificate = max(known, key=lambda each: (each.n, each.created))
    count = sum(radius >= eps for radius in newest.certified)
    low, high = wilson(count, newest.n)
    return Number(
        f"Certified by {newest.method}, {show_budget(eps, None)}",
        per_cent(count / newest.n),
        (per_cent(low), per_cent(high)),
        newest.n,
        _files("certificates", newest.id),
    )


def _diagnosis(
    evidence: Evidence, subject: Subject, eps: float, quantity: str = ""
) -> Diagnosis | None:
    """The one whose code tables print beside a number within the budget; of any attack's if "".

    None speaks of clean or certified accuracy, or of images of other models. That an attack was too
    weak is said of its own number, and where nothing else was diagnosed.

    Raises:
        UserError: the attack has no such loss, or there is no such source.
    """
    if quantity in (CLEAN, CERTIFIED):
        return None
    asked = read_attack(quantity) and _cell(evidence, quantity, subject, eps)
    if asked and not asked.white_box:
        return None
    attack = asked.attack_for(subject.model.recipe.scale) if asked else None
    known = [each for each in evidence.diagnoses if each.target.key == subject.model.key]
    choices = [attack.dump() if attack else None]
    choices += [] if quantity else [each.attack for each in reversed(known)]
    found = (
        evidence.diagnosed.of(subject.model.key, data, {attack.norm if attack else "linf": eps}, of)
        for of in choices
        for data in dict.fromkeys(each.data.digest for each in reversed(known))
    )
    return next(filter(None, found), None)


def _judged(found: Diagnosis) -> Number:
    low, high = found.interval
    return Number(
        found.label,
        per_cent(found.withstood / found.n),
        (per_cent(low), per_cent(high)),
        found.n,
        _files("diagnoses", found.id),
        found.verdict,
    )


def _files(folder: str, *identities: str) -> tuple[str, ...]:
    return tuple(f"results/{folder}/{identity}.json" for identity in identities)


def _command(
    requirement: Requirement, subject: Subject | None, selection: Selection, eps: float | None
) -> str:
    """Measures what is required."""
    target, quantity = requirement.target, requirement.quantity
    dataset, scale = selection.dataset, selection.scale
    words: list[str] = []
    if subject is not None:
        model, dataset = subject.model, subject.dataset
        scale = model.recipe.scale
        if isinstance(model.recipe, Recipe) and not is_recipe(target):  # trained with --set
            name = f"{dataset}-{target}-{scale}-{model.checkpoint}-{model.weights}"
            target = f"checkpoints/{name}.safetensors"
    if requirement.part == "verdict":
        words = ["diagnose", target, *(["--attack", quantity] if quantity else [])]
    elif quantity == CERTIFIED:
        words = ["certify", target]
    else:
        name, loss, source = read_attack(quantity) or RequiredAttack(USUAL[quantity], None, None)
        words = (
            ["transfer", "--source", source, "--target", target] if source else ["attack", target]
        )
        words += ["--attack", name, *(["--loss", loss] if loss else [])]
    options: dict[str, Any] = {"dataset": dataset, "scale": scale, "seed": selection.seed}
    if eps is not None and quantity != CLEAN and not (dataset and eps == dataset_spec(dataset).eps):
        shown = show_budget(eps, None).removeprefix("eps = ")
        options["eps"] = shown if math.isclose(parse_eps(shown), eps) else repr(eps)
    for name, value in options.items():
        words += [f"--{name}", str(value)] if value is not None else []
    return f"pclbench {shlex.join(words)}"
