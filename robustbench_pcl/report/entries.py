"""One number of a table: what was measured, over one training or several, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from robustbench_pcl.attacks.base import attack_label, norm_of
from robustbench_pcl.configuration import Scale
from robustbench_pcl.evaluation.statistics import Verdicts, interval_of_mean, significantly_best
from robustbench_pcl.paper.tables import Cell, Heading, Quantity
from robustbench_pcl.report.formatting import DIGITS
from robustbench_pcl.report.results import CLEAN, Record
from robustbench_pcl.report.worst_case import ENSEMBLES, TITLES, WORST_CASE, WorstCase


@dataclass(frozen=True)
class Entry:
    """One position of a table, answered as far as it can be.

    Attributes:
        column: the heading above it.
        cell: the question.
        measured: per cent, seconds or epochs, the mean over the seeds; None if nothing answers.
        published: the same from the paper, or None.
        n: images measured for each seed, or None.
        interval: 95 % interval in per cent: of one training's accuracy (Wilson), or of the mean
            over the seeds (Student); or None.
        spread: standard deviation over the seeds; None for fewer than two.
        seeds: how many trainings were measured.
        remark: on the published number, or "".
        mark: a sign behind the measured number that a footnote explains, or "".
        words: stand where there is no number, or "".
        verdict: the code of the diagnosis that speaks of the number, or "".
        best: significantly better than each other recipe here, on the same images.
        verdicts: which images were classified right, for each seed.
        early_stop: images left at their first fooling, which is harder to withstand.
        records: what answers it, one row of a frame for each seed.
    """

    column: Heading
    cell: Cell
    measured: float | None = None
    published: float | None = None
    n: int | None = None
    interval: tuple[float, float] | None = None
    spread: float | None = None
    seeds: int = 0
    remark: str = ""
    mark: str = ""
    words: str = ""
    verdict: str = ""
    best: bool = False
    verdicts: tuple[Verdicts, ...] = ()
    early_stop: bool = False
    records: tuple[Record, ...] = ()

    @property
    def difference(self) -> float | None:
        """Measured less published, or None where one of them is missing."""
        if self.measured is None or self.published is None:
            return None
        return round(self.measured - self.published, DIGITS)

    @property
    def evidence(self) -> tuple[str, ...]:
        """The ids of what stands behind the measured number, one for each seed."""
        return tuple(map(number_id, self.records))

    @property
    def is_summary(self) -> bool:
        """Whether it stands for the strongest attacks, and not at a position of the paper's."""
        return self.cell.attack is not None and self.cell.attack.name in (WORST_CASE, *ENSEMBLES)


@dataclass(frozen=True)
class Row:
    """A row: its heading, and an entry for each column."""

    heading: Heading
    entries: tuple[Entry, ...]

    def only(self, columns: Sequence[Heading]) -> Row:
        """The row without the entries beneath other columns."""
        return replace(self, entries=tuple(e for e in self.entries if e.column in columns))


def answered(entry: Entry, records: Sequence[Record]) -> Entry:
    """The entry with what was measured.

    Args:
        entry: the question.
        records: of one recipe, one for each seed; a worst case counts as one.
    """
    if not records:
        return entry
    quantity: Quantity = entry.cell.quantity
    values = [float(getattr(record, quantity)) for record in records]
    found: dict[str, Any] = {
        "measured": round(fmean(values), DIGITS),
        "spread": stdev(values) if len(values) > 1 else None,
        "seeds": len(values),
        "records": tuple(records),
    }
    if quantity == "accuracy":
        low, high = records[0].low, records[0].high
        if len(values) > 1:
            low, high = interval_of_mean(values)
        found["interval"] = max(0.0, low), min(100.0, high)
        found["n"] = min(record.n for record in records)
        found["verdicts"] = tuple(
            Verdicts(each.data_digest, each.n, each.correct_per_image) for each in records
        )
        codes = dict.fromkeys(record.verdict for record in records if record.verdict)
        found["verdict"] = ", ".join(codes)  # several only where seeds differ
        found["early_stop"] = any(record.mode == "early-stop" for record in records)
    return replace(entry, **found)


def entry_fields(entry: Entry, scale: Scale | None) -> dict[str, Any]:
    """What of an entry is a field of a table's rows (``schema.toml``).

    Args:
        entry: answered or not.
        scale: of the section, whose attack is named where nothing answers.
    """
    records, (low, high) = entry.records, entry.interval or (None, None)
    return {
        "group": entry.column.group,
        "column": entry.column.label,
        "quantity": entry.cell.quantity,
        "target": entry.cell.target,
        "source": entry.cell.source,
        **_attack_fields(entry, scale),
        "measured": entry.measured,
        "spread": entry.spread,
        "low": low,
        "high": high,
        "n": entry.n,
        "seeds": [record.seed for record in records],
        "best": entry.best,
        "words": entry.words,
        "published": entry.published,
        "difference": entry.difference,
        "remark": entry.remark,
        "verdict": entry.verdict or None,
        "checkpoints": [record.checkpoint for record in records],
        "measurements": [identity for record in records for identity in _measurements(record)],
        "adversarial_sets": [
            record.adversarial_set for record in records if getattr(record, "adversarial_set", None)
        ],
    }


def _attack_fields(entry: Entry, scale: Scale | None) -> dict[str, Any]:
    """The attack that answers an entry; else the one that it asks for."""
    asked = entry.cell.attack
    if asked is None:
        clean = CLEAN if entry.cell.quantity == "accuracy" else None
        mode = entry.records[0].mode if entry.records and clean else None
        return {**dict.fromkeys(("eps", "norm", "c", "parameters")), "attack": clean, "mode": mode}
    parameters, label = None, TITLES.get(asked.name, asked.name)
    if asked.name != WORST_CASE and (entry.records or scale):
        own = entry.records[0].parameters if entry.records else None
        parameters = own or asked.complete(entry.cell.dataset, scale or "paper").dump()
        label = attack_label(parameters)
    return {
        "attack": label,
        "eps": asked.eps,
        "norm": norm_of(parameters) if parameters else None,
        "c": asked.c,
        "parameters": parameters,
        "mode": entry.records[0].mode if entry.records else None,
    }


def _measurements(record: Record) -> Sequence[str]:
    """The ids of what a record says: its own, or those that a worst case is over."""
    if isinstance(record, WorstCase):
        return record.measurements
    return [record.id] if hasattr(record, "id") else []


def number_id(record: Record) -> str:
    """The id of what stands behind a number.

    That of a measurement or of a worst case, or of a training the name of its record.
    """
    return str(record.id if hasattr(record, "id") else f"{record.checkpoint}-{record.weights}")


def with_best(compared: Sequence[Entry]) -> list[Entry]:
    """Mark the accuracy that is significantly better than that of each other recipe, if one is.

    Seconds and epochs have no interval, so that none is better than another. Who withstood all
    steps is not better than who was stopped at the first fooling.
    """
    places = [place for place, entry in enumerate(compared) if entry.verdicts]
    best = significantly_best([compared[place].verdicts for place in places])
    entries = list(compared)
    stopped = any(entry.early_stop for entry in compared)
    if best is not None and stopped and not compared[places[best]].early_stop:
        return entries
    if best is not None:
        entries[places[best]] = replace(entries[places[best]], best=True)
    return entries
