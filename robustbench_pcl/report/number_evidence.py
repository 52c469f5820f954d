"""What stands behind a measured number: how it was made and on what, and how to make it again."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from robustbench_pcl.configuration import Mode
from robustbench_pcl.data.datasets import DATASETS
from robustbench_pcl.progress import counted
from robustbench_pcl.recipe import AnyModel, ExternalModel
from robustbench_pcl.report.commands import command_of, training_command
from robustbench_pcl.report.entries import number_id
from robustbench_pcl.report.formatting import (
    show_budget,
    show_interval,
    show_measured,
)
from robustbench_pcl.report.model_formats import number_ids
from robustbench_pcl.report.model_section import Budget
from robustbench_pcl.report.results import Evidence, Record
from robustbench_pcl.report.strips import description
from robustbench_pcl.report.summary import SummaryRow
from robustbench_pcl.report.table import Table
from robustbench_pcl.report.worst_case import WorstCase

Strips = Callable[[str], bytes | None]
"""The strip of the measurement with an id, as a PNG; None where there is none."""
MODES: Mapping[Mode, str] = {
    "exact": "exact (all steps, for all images, on the plain float32 model)",
    "fast": "fast (all steps, on the fast copy of the model)",
    "early-stop": "early-stop (an image leaves the attack when it is fooled)",
}


class Strip(NamedTuple):
    """A picture inside the page: its address ("data:image/png;base64,...") and what it shows."""

    address: str
    words: str


class WorstNumber(NamedTuple):
    """An accuracy over several measurements of one model: what withstood all of them.

    Attributes:
        id: of the number.
        title: whose accuracy, within which budget.
        accuracy: per cent.
        low: lower end of its 95 % interval, per cent.
        high: upper end of it.
        n: images.
        measurements: the ids of those that it is over.
        verdict: the code of the diagnosis that speaks of it, or None.
    """

    id: str
    title: str
    accuracy: float
    low: float
    high: float
    n: int
    measurements: tuple[str, ...]
    verdict: str | None


class Place(NamedTuple):
    """Where a number stands on a page.

    Attributes:
        anchor: of the part of the page.
        words: what that part is called.
    """

    anchor: str
    words: str


Shown = list[tuple[str | WorstNumber, Place]]
"""Each number of a page, by its id or as a worst case, and where it stands."""


@dataclass(frozen=True, kw_only=True)
class NumberEvidence:
    """What stands behind one number.

    Attributes:
        id: of the measurement, the worst case or the training.
        title: what the number is, in words.
        facts: what there is to know, by its name.
        verdict: the code of the verdict on it, or "".
        parts: ids of the measurements that the number is over; empty for one measurement.
        command: makes it again, or "" where none does.
        strip: the images that were fooled first, or None.
        places: where the page shows the number.
    """

    id: str
    title: str
    facts: Mapping[str, str]
    verdict: str = ""
    parts: tuple[str, ...] = ()
    command: str = ""
    strip: Strip | None = None
    places: tuple[Place, ...] = ()


def number_evidence(
    evidence: Evidence, shown: Shown, strips: Strips | None = None
) -> list[NumberEvidence]:
    """What stands behind the numbers of a page, each once, in the order in which they are shown.

    Args:
        evidence: all that is stored.
        shown: the numbers; the measurements that a worst case is over follow it.
        strips: finds the images that an attack fooled first; None for no pictures.
    """
    records = dict(_stored(evidence))
    worst: dict[str, WorstNumber] = {}
    places: dict[str, dict[Place, None]] = defaultdict(dict)
    for number, place in shown:
        if isinstance(number, WorstNumber):
            worst[number.id] = number
            places[number.id][place] = None
        for identity in number.measurements if isinstance(number, WorstNumber) else (number,):
            places[identity][place] = None
    return [
        replace(
            _of_worst(worst[identity])
            if identity in worst
            else _of_record(records[identity], strips),
            places=tuple(where),
        )
        for identity, where in places.items()
        if identity in worst or identity in records
    ]


def shown_numbers(
    summary: Sequence[SummaryRow], tables: Sequence[Table], models: Sequence[Sequence[Budget]]
) -> Shown:
    """Each measured number of a page, from top to bottom, and where it stands.

    Args:
        summary: the table on top.
        tables: beneath it.
        models: everything stored about some, a part of the page each.
    """
    found: Shown = [
        (identity, Place("summary", "Summary")) for row in summary for identity in row.measurements
    ]
    for table in tables:
        for section in table.sections:
            anchor = f"table-{table.number}-{section.dataset}"
            place = Place(anchor, f"Table {table.number}, {section.title}")
            cases = {case.id: _worst_case(case, section.title) for case in section.worst_cases}
            found += [
                (cases.get(identity, identity), place)
                for entry in section.entries
                for identity in entry.evidence
            ]
    for budget in (each for part in models for each in part):
        *ids, last = ("", *number_ids(budget))
        place = Place("models", f"Models, {budget.heading}")
        found += [(identity, place) for identity in ids if identity]
        if budget.attacks:
            accuracy, (low, high) = budget.worst_case
            title, over = f"Worst case on {budget.heading}", tuple(ids[1:])
            number = WorstNumber(
                last, title, accuracy, low, high, len(budget.withstood), over, budget.verdict
            )
            found.append((number, place))
        elif last:
            found.append((last, place))
    return found


def _worst_case(case: WorstCase, dataset: str) -> WorstNumber:
    title = f"Worst case on {case.target} ({dataset}, {show_budget(case.eps, None)})"
    shares = (case.accuracy, case.low, case.high, case.n)
    return WorstNumber(case.id, title, *shares, case.measurements, case.verdict)


def _stored(evidence: Evidence) -> Iterator[tuple[str, Record]]:
    for records in evidence.records.values():
        for record in records:
            yield number_id(record), record


def _of_record(record: Record, strips: Strips | None) -> NumberEvidence:
    if not hasattr(record, "id"):
        return _of_training(record)
    png = strips(record.id) if strips and record.parameters else None
    address = f"data:image/png;base64,{base64.b64encode(png).decode()}" if png else ""
    title = f"{record.attack}{_on(record)}: {show_measured(record.accuracy)} %"
    return NumberEvidence(
        id=record.id,
        title=title,
        facts={name: value for name, value in _facts(record) if value},
        verdict=record.verdict or "",
        command=command_of(record),
        strip=Strip(address, description(png)) if png else None,
    )


def _on(record: Record) -> str:
    """Whose number it is: " on ours (CIFAR-10, quick scale)"."""
    title = DATASETS[record.dataset].title if record.dataset in DATASETS else record.dataset
    return f" on {record.target} ({title}, {record.scale} scale)"


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    """What there is to know of a measurement, by its name."""
    count = f"{record.correct:,} of {record.n:,} images"
    yield "accuracy", f"{show_measured(record.accuracy)} % ({count})"
    yield "95 % interval", f"{show_interval((record.low, record.high))} (Wilson)"
    yield "n", f"{record.n:,}"
    yield "target", _recipe(record.recipe)
    if record.parameters:
        source = "the target itself (white-box)" if record.white_box else "another tool's images"
        elsewhere = record.source and not record.white_box
        yield "source", _recipe(record.source_recipe) if elsewhere else source
        pairs = record.parameters.items()
        yield "attack", record.attack
        yield "parameters", ", ".join(f"{key} = {_shown(value)}" for key, value in pairs)
        yield "mode", MODES[record.mode]
        yield "attack seed", str(record.attack_seed)
        yield "gradients", f"{record.precision}; every class is decided by the float32 model"
        yield (
            "largest perturbation",
            f"{record.largest_linf:.4g} (L-infinity), mean {record.mean_l2:.4g} (L2), in pixels "
            "of [0, 1]",
        )
        if not pd.isna(record.correct_8bit):
            yield "correct after rounding to 8 bits", str(record.correct_8bit)
    yield "images", f"{_which(record)}; {record.provenance}"
    if record.parameters:
        passes = f"{record.forward_passes:,} forward and {record.backward_passes:,} backward passes"
        yield "cost", f"{record.seconds:.4g} seconds, {passes}"
    yield from _made(record)
    yield "measurement", record.id
    yield "adversarial set", record.adversarial_set or ""
    yield from _ids(record)
    yield "digest of the clean images", record.data_digest
    yield "diagnosis", record.diagnosis or ""


def _which(record: Record) -> str:
    """Which of the data set's images."""
    if record.parameters and not record.source:
        return counted(record.n, "test image")
    return f"the first {record.n:,} test images" if record.n > 1 else "the first test image"


def _shown(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value).lower()


def _recipe(recipe: AnyModel) -> str:
    """A model, in words."""
    if isinstance(recipe, ExternalModel):
        return f"{recipe.name}, not trained by pclbench: {recipe.source}"
    return f"{recipe.name}, seed {recipe.seed}, {recipe.scale} scale"


def _made(record: Record) -> Iterator[tuple[str, str]]:
    """When and where a number was made."""
    threads = counted(int(record.threads), "thread")
    yield "made", f"{record.created} on {record.device}, {threads}, {record.platform}"
    versions = f"pclbench {record.pclbench}, torch {record.torch}, Python {record.python}"
    yield "versions", versions


def _ids(record: Record) -> Iterator[tuple[str, str]]:
    """What names the model that is measured."""
    yield "checkpoint", record.checkpoint
    yield "digest of the weights", record.weights


def _of_training(record: Record) -> NumberEvidence:
    return NumberEvidence(
        id=number_id(record),
        title=f"Training{_on(record)}",
        facts={
            "epochs": str(record.epochs),
            "seconds per epoch": f"{record.seconds_per_epoch:.4g} (median)",
            "target": _recipe(record.recipe),
            "precision": record.precision,
            "images": record.provenance,
            **dict(_made(record)),
            **dict(_ids(record)),
        },
        command=training_command(record.recipe),
    )


def _of_worst(number: WorstNumber) -> NumberEvidence:
    return NumberEvidence(
        id=number.id,
        title=f"{number.title}: {show_measured(number.accuracy)} %",
        facts={
            "95 % interval": f"{show_interval((number.low, number.high))} (Wilson)",
            "n": f"{number.n:,}",
            "rule": "an image counts only if it withstands every attack listed here",
        },
        verdict=number.verdict or "",
        parts=number.measurements,
    )
