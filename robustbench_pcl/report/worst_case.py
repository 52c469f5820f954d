"""What the strongest stored attacks leave of a model: the worst case, AutoAttack, `strongest`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import ClassVar

from robustbench_pcl.attacks.base import attack_label
from robustbench_pcl.configuration import Mode, digest
from robustbench_pcl.paper.tables import Cell
from robustbench_pcl.report.formatting import per_cent, show_budget
from robustbench_pcl.report.results import Answers, Evidence, Record
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.rules import wilson

WORST_CASE = "worst-case"
"""The attack that stands for all stored ones, image by image."""
ENSEMBLES = ("auto", "strongest")
"""Attacks that are sequences of others; the last is the strongest."""
TITLES = {WORST_CASE: "Worst case", "auto": "Auto", "strongest": "Strongest"}
"""What they are called, in order."""
PGD_LIKE = frozenset({"fgsm", "bim", "mim", "dim", "pgd"})
"""Attacks that climb one loss by the gradient's sign from one start."""
ROUNDING = 1e-5
"""float32 pixels may leave the budget by a rounding error; a step of 8-bit pixels is 4e-3."""


@dataclass(frozen=True)
class WorstCase:
    """Accuracy when an image counts only if it withstands every stored set of images.

    Attributes:
        target: recipe of the model.
        seed: of its training.
        checkpoint: its id.
        eps: the largest L-infinity budget that it was attacked with, in pixels of [0, 1].
        accuracy: per cent.
        low: lower end of the 95 % interval, per cent.
        high: upper end of it, per cent.
        n: images.
        data_digest: digest of the clean images and labels.
        correct_per_image: one bit per image in order, 1 for withstood, as hexadecimal.
        attacks: what the model itself was attacked with; smaller budgets than asked for are named.
        elsewhere: source -> attacks whose images were made on it, not on the model.
        ensembles: :data:`ENSEMBLES` that it was attacked with, with all of the budget -> record.
        pgd_only: nothing but :data:`PGD_LIKE` attacks.
        measurements: the ids of those that it is over.
        diagnosis: that speaks of it, or None.
    """

    mode: ClassVar[Mode] = "early-stop"  # whatever fooled the model counts

    target: str
    seed: int
    checkpoint: str
    eps: float
    accuracy: float
    low: float
    high: float
    n: int
    data_digest: str
    correct_per_image: str
    attacks: tuple[str, ...]
    elsewhere: Mapping[str, tuple[str, ...]]
    ensembles: Mapping[str, Record]
    pgd_only: bool
    measurements: tuple[str, ...]
    diagnosis: Diagnosis | None = None

    @property
    def id(self) -> str:
        """The same for the same measurements."""
        return worst_case_id(self.measurements)

    @property
    def verdict(self) -> str | None:
        """The code of the diagnosis that speaks of it, or None."""
        return self.diagnosis.code if self.diagnosis else None


def worst_cases(evidence: Evidence, cells: Sequence[Cell], answers: Answers) -> Iterator[WorstCase]:
    """The worst case of each recipe that some cell is answered for, where it was attacked.

    Args:
        evidence: all that is stored.
        cells: what a section asks; its largest white-box L-infinity budget is the worst case's.
        answers: to the cells; they say which model stands for a recipe.
    """
    eps = largest_eps(cells)
    if eps is None:
        return
    models = {
        cell.target: record
        for cell, record in zip(cells, answers.records, strict=True)
        if record is not None
    }
    for model in models.values():
        case = worst_case(evidence, model, eps)
        if case:
            yield case


def worst_case_id(measurements: Iterable[str]) -> str:
    """The id of a worst case, by the ids of the measurements that it is over."""
    return digest(sorted(measurements))


def largest_eps(cells: Iterable[Cell]) -> float | None:
    """The largest L-infinity budget of the white-box attacks, or None if there is none."""
    budgets = [cell.attack.eps for cell in cells if cell.attack and cell.white_box]
    return max((eps for eps in budgets if eps is not None), default=None)


def worst_case(evidence: Evidence, model: Record, eps: float) -> WorstCase | None:
    """The accuracy of one model against every stored set of images within a budget.

    A mean over images hides which images an attack breaks; here an image counts as correct only
    if it is correct when clean and in every set, also in those that were made on other models or
    by other tools, and where images left at their first fooling: whatever is within the budget
    and classified wrong is an adversarial image. Sets of other images, or of another number of
    them, cannot be combined: the images with the most attacks on the model are taken.

    Args:
        evidence: all that is stored.
        model: a record of the model.
        eps: L-infinity budget in pixels of [0, 1].

    Returns:
        The worst case, or None if the model itself was not attacked.
    """
    by_images: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in (record for rows in evidence.records.values() for record in rows):
        if (
            hasattr(record, "correct_per_image")
            and record.model == model.model
            and record.largest_linf <= eps + ROUNDING
        ):
            by_images[record.data_digest, record.n].append(record)
    groups = [rows for rows in by_images.values() if any(map(_own, rows))]
    if not groups:
        return None
    records = max(groups, key=lambda rows: (len(_sets(filter(_own, rows))), rows[0].n))
    n, length = records[0].n, len(records[0].correct_per_image)
    withstood = reduce(and_, (int(record.correct_per_image, 16) for record in records))
    low, high = wilson(withstood.bit_count(), n)
    own = [record for record in records if _own(record)]
    elsewhere: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.parameters and not _own(record):
            elsewhere[record.source].append(record)
    data, accuracy = records[0].data_digest, per_cent(withstood.bit_count() / n)
    return WorstCase(
        target=model.target,
        seed=model.seed,
        checkpoint=model.checkpoint,
        eps=max(_budget(record, eps) for record in own),
        accuracy=accuracy,
        low=per_cent(low),
        high=per_cent(high),
        n=n,
        data_digest=data,
        correct_per_image=f"{withstood:0{length}x}",
        attacks=_named(own, eps),
        elsewhere={source: _named(rows, eps) for source, rows in elsewhere.items()},
        ensembles=_ensembles(own, eps),
        pgd_only={record.parameters["name"] for record in own} <= PGD_LIKE,
        measurements=tuple(record.id for record in records),
        diagnosis=evidence.diagnosed.of(model.model, data, {"linf": eps}, accuracy=accuracy),
    )


def _own(record: Record) -> bool:
    """Whether the model itself was attacked: a set without a source came from another tool."""
    return bool(record.parameters) and (record.white_box or record.source is None)


def _sets(records: Iterable[Record]) -> set[str]:
    return {record.adversarial_set for record in records}


def _budget(record: Record, eps: float) -> float:
    """What an attack was given, as far as it is within ``eps``; else what it took."""
    parameters = record.parameters
    bounded = "eps" in parameters and record.norm == "linf"
    given = float(parameters["eps"] if bounded else record.largest_linf)
    return given if given < eps - ROUNDING else eps


def _ensembles(records: Iterable[Record], eps: float) -> dict[str, Record]:
    """Of each ensemble with all of the budget the record that leaves least."""
    found: dict[str, Record] = {}
    for record in records:
        name = str(record.parameters["name"])
        if name in ENSEMBLES and _budget(record, eps) == eps:
            least = found.get(name)
            found[name] = record if least is None or record.accuracy < least.accuracy else least
    return found


def _named(records: Iterable[Record], eps: float) -> tuple[str, ...]:
    """Each attack once, with its own largest budget where that is not the whole one.

    Other parameters tell attacks apart: "BIM (eps 0.02)", "PGD", "PGD-40 on margin".
    """
    largest: dict[str, float] = defaultdict(float)
    for record in records:
        attack = record.parameters
        label = attack_label({name: value for name, value in attack.items() if name != "eps"})
        largest[label] = max(largest[label], float(attack.get("eps", eps)))
    names = []
    for label, own in sorted(largest.items()):
        name, *others = label.split(", ")
        if own < eps - ROUNDING:
            others.append(show_budget(own, None).replace(" = ", " "))
        names.append(f"{name} ({', '.join(others)})" if others else name)
    return tuple(names)
