"""Figures that only the page has: a table's numbers as bars or as a heat map, and trainings."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.paper.tables import published
from robustbench_pcl.report.drawing import Drawing
from robustbench_pcl.report.figures import PageFigure
from robustbench_pcl.report.formatting import listed, percent, show_measured, span
from robustbench_pcl.report.plots import Bar, Square, Words, bars, heat_map, training_curves
from robustbench_pcl.report.results import Evidence
from robustbench_pcl.report.table import Section, Table

MAIN_TABLES = (3, 9)
"""Whose recipes' training is shown where not all can be."""
MOST_CURVES = 8
"""Of one figure; the names of more take more room than the curves."""


def table_figures(tables: Sequence[Table]) -> Iterator[PageFigure]:
    """Bars for Table 3 and a heat map for a transfer matrix, where anything is measured."""
    for table in tables:
        for section in table.sections:
            if section.scale and table.number == 3:
                title = f"White-box attacks on {section.title}"
                drawing = _attack_bars(section, title)
                yield PageFigure(title, drawing, f"Accuracy. {drawing.note}")
            if section.scale and table.is_matrix:
                title = f"Transfer on {section.title}"
                drawing = _transfer_map(section, title)
                yield PageFigure(title, drawing, f"Accuracy on PGD images. {drawing.note}")


def _conditions(section: Section) -> str:
    """Data, budgets, scale and n, which intervals they are, and devices if not all are of one."""
    entries = [entry for entry in section.entries if entry.n]
    counts = f"n = {span(entry.n or 0 for entry in entries)} images" if entries else ""
    seeds = {entry.seeds for entry in entries}
    kind = f"{percent('95')} Wilson intervals"
    if max(seeds, default=1) > 1:
        counts += f" for each of {span(seeds)} seeds"
        kind = f"{percent('95')} intervals of the mean over the seeds (Student)"
        kind += ", of one seed Wilson's" if min(seeds) == 1 else ""
    devices = list(dict.fromkeys(each.device for each in section.environments))
    where = f" Computed on {listed(devices)}." if len(devices) > 1 else ""
    return f"{', '.join(filter(None, [section.heading, counts]))}; {kind}.{where}"


def _attack_bars(section: Section, title: str) -> Drawing:
    """Accuracy without attack, under each white-box attack and in the worst case, as far as known.

    AutoAttack and `strongest` have bars where some recipe was attacked by them.
    """
    shown = [
        at
        for at, entry in enumerate(section.rows[0].entries)
        if entry.cell.attack is None
        or (entry.cell.white_box and not entry.is_summary)
        or any(row.entries[at].is_summary and row.entries[at].seeds for row in section.rows)
    ]
    rows = {row.heading.label: [row.entries[at] for at in shown] for row in section.rows}
    groups = [entry.column.label for entry in next(iter(rows.values()))]
    measured = {
        label: [
            (entry.column.label, entry.measured) for entry in entries if entry.measured is not None
        ]
        for label, entries in rows.items()
    }
    description = "; ".join(
        f"{label}: {', '.join(f'{name} {show_measured(value)}' for name, value in found)}"
        for label, found in measured.items()
        if found
    )
    return bars(
        groups,
        {
            label: [Bar(entry.measured, entry.interval, entry.published) for entry in entries]
            for label, entries in rows.items()
        },
        Words(title, f"Accuracy in per cent. {description}.", _conditions(section)),
    )


def _transfer_map(section: Section, title: str) -> Drawing:
    """Accuracy of each target on images made on each source; white-box attacks are framed."""
    rows = [row for row in section.rows if not row.entries[0].is_summary]
    entries = [entry for row in rows for entry in row.entries]
    measured = [entry.measured for entry in entries if entry.measured is not None]
    size = f"{len(rows[0].entries)} targets on images made on {len(rows)} sources"
    ends = f", from {min(measured):.1f} to {percent(max(measured))}" if measured else ""
    return heat_map(
        [row.heading.label for row in rows],
        [entry.column.label for entry in rows[0].entries],
        [
            [Square(entry.measured, entry.cell.white_box, entry.interval) for entry in row.entries]
            for row in rows
        ],
        Words(
            title,
            f"Accuracy of {size}{ends}.",
            f"{_conditions(section)} White-box attacks are framed.",
        ),
    )


def training_figures(
    tables: Sequence[Table], evidence: Evidence, seed: int | None = None
) -> Iterator[PageFigure]:
    """The newest training of each recipe, for each data set and scale that a table shows.

    Args:
        tables: on the page.
        evidence: all that is stored.
        seed: of the trainings; any if None.
    """
    shown = {
        (section.dataset, section.scale): section.title
        for table in tables
        for section in table.sections
    }
    for (dataset, scale), title in shown.items():
        runs = {
            row["target"]: row
            for row in evidence.trainings.to_dict("records")
            if (row["dataset"], row["scale"]) == (dataset, scale)
            and seed in (None, row["seed"])
            and row["history"]
        }
        more = ""
        if len(runs) > MOST_CURVES:
            main = {
                position.cell.target
                for number in MAIN_TABLES
                for position in published(number).positions(dataset)
            }
            runs = {name: row for name, row in runs.items() if name in main}
            more = f" Only the recipes of Tables {listed(map(str, MAIN_TABLES))}."
        if runs:
            yield _training_figure(dataset, f"Training on {title}", runs, more)


def _training_figure(
    dataset: str, title: str, runs: Mapping[str, Mapping[Hashable, Any]], more: str
) -> PageFigure:
    """The curves of some trainings, rows of their frame by recipe, at one scale."""
    spec = dataset_spec(dataset)
    images = [
        min(row["recipe"].train_images or count, count)
        for row in runs.values()
        for count in [spec.training_count(row["provenance"]) or spec.train_images]
    ]
    scale = next(iter(runs.values()))["scale"]
    note = f"{spec.title}, {scale} scale, n = {span(images)} training images."
    ends = ", ".join(
        f"{name} {percent(100 * row['history'][-1]['training_accuracy'])}"
        for name, row in runs.items()
        if "training_accuracy" in row["history"][-1]
    )
    description = "Cross-entropy and accuracy on the training images over the epochs."
    words = Words(
        title, f"{description} Accuracy at the end: {ends}." if ends else description, note
    )
    drawing = training_curves({name: row["history"] for name, row in runs.items()}, words)
    return PageFigure(
        title, drawing, f"Cross-entropy and accuracy on training images. {note}{more}"
    )
