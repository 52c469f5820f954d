"""Figures from stored records: the paper's, and those that only the page has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.figures import FIGURES, paper_figure
from robustbench_pcl.paper.tables import published
from robustbench_pcl.report.figure_sections import (
    Block,
    Curve,
    FigureSection,
    Point,
    Sweep,
    figure_sections,
)
from robustbench_pcl.report.formatting import listed, percent
from robustbench_pcl.report.model_section import Budget
from robustbench_pcl.report.plots import (
    Bar,
    Drawing,
    Square,
    bars,
    heat_map,
    sweep,
    training_curves,
)
from robustbench_pcl.report.results import Evidence
from robustbench_pcl.report.scatter import scatter
from robustbench_pcl.report.table import Section, Table

MAIN_TABLES = (3, 9)
"""Whose recipes' training is shown where not all can be."""
MOST_CURVES = 8
"""Of one figure; the names of more take more room than the curves."""


@dataclass(frozen=True)
class ReportFigure:
    """A figure ready to be written.

    Attributes:
        title: number and what it shows.
        drawing: as SVG (``drawing.svg()``) or PNG (``drawing.png()``).
        sections: its parts, one per data set.
        caption: how to read it, how it was made, and what is missing.
    """

    title: str
    drawing: Drawing
    sections: tuple[FigureSection, ...]
    caption: str

    @property
    def commands(self) -> tuple[str, ...]:
        """Make what is missing."""
        return tuple(section.command for section in self.sections if section.missing)

    @property
    def stored(self) -> int:
        """How many of its panels or points are stored."""
        return sum(len(section.images) for section in self.sections)

    @property
    def missing(self) -> int:
        """How many are not."""
        return sum(len(section.missing) for section in self.sections)


def report_figure(
    number: int,
    evidence: Evidence,
    datasets: Sequence[str] = (),
    *,
    scale: Scale | None = None,
    seed: int | None = None,
) -> ReportFigure:
    """A figure of the paper, drawn as far as it is stored.

    Args:
        number: the paper's.
        evidence: all records there are.
        datasets: to show; by default all with anything stored, or the paper's if there is nothing.
        scale: of the recipes; by default for each data set the most faithful one stored.
        seed: of the recipes' training; any by default.

    Raises:
        UserError: there is no such figure or data set, or a file is damaged.
    """
    sections = figure_sections(number, evidence, datasets, scale=scale, seed=seed)
    figure = paper_figure(number)
    budgets = dict.fromkeys(f"{dataset_spec(section.dataset).eps:g}" for section in sections)
    sentences = [words for section in sections for words in section.sentences()]
    blocks = [section.part for section in sections if isinstance(section.part, Block)]
    sweeps = [section.part for section in sections if isinstance(section.part, Sweep)]
    return ReportFigure(
        title=f"Figure {number}. {figure.title}",
        drawing=scatter(blocks) if blocks else sweep(sweeps),
        sections=tuple(sections),
        caption=" ".join([figure.caption.format(eps=listed(budgets)), *sentences]),
    )


class PageFigure(NamedTuple):
    """A figure of the page.

    Attributes:
        title: its heading.
        drawing: what is seen.
        caption: how to read it.
        commands: make what it shows; none where a table's command does.
    """

    title: str
    drawing: Drawing
    caption: str
    commands: tuple[str, ...] = ()


def model_figure(budgets: Sequence[Budget]) -> PageFigure:
    """Accuracy over eps under each white-box attack and in the worst case, a plot per model.

    Args:
        budgets: everything stored about the models.

    Raises:
        UserError: no attack on them has a budget.
    """
    groups: dict[tuple[object, ...], list[Budget]] = defaultdict(list)
    for each in budgets:
        if each.eps is not None:
            groups[each.model.model, each.model.data_digest, each.model.n, each.norm].append(each)
    names = listed(dict.fromkeys(each.model.target for each in budgets))
    if not groups:
        name = budgets[0].model.target
        raise UserError(
            f"No attack with a budget is stored of {names}.",
            f"Measure some: pclbench attack {name} --eps 2/255 --eps 4/255 --eps 8/255",
        )
    return PageFigure(
        title=f"{names}: accuracy against the attack's budget",
        drawing=sweep([model_sweep(group) for group in groups.values()]),
        caption=f"White-box attacks; bands: {percent('95')} intervals. Worst case: an image counts "
        "only if it withstands every stored attack within the budget.",
    )


def model_sweep(budgets: Sequence[Budget]) -> Sweep:
    """The curves of one model on the same images, from the clean accuracy on.

    Args:
        budgets: of one norm, rising.
    """
    first = budgets[0]
    clean = first.clean
    start = [] if clean is None else [Point(0.0, clean.accuracy, (clean.low, clean.high))]
    points: dict[str, list[Point]] = {}
    worst = [*start]
    for budget in budgets:
        eps = budget.eps or 0.0
        worst.append(Point(eps, *budget.worst_case))
        for each in budget.attacks:
            record = each.record
            if record.white_box and (record.norm, record.eps) == (budget.norm, eps):
                point = Point(eps, record.accuracy, (record.low, record.high))
                points.setdefault(each.label, [*start]).append(point)
    lowest = {label: found[-1].accuracy for label, found in points.items()}
    order = sorted(points, key=lambda label: (-lowest[label], label))  # as the lines end
    curves = [Curve(label, tuple(points[label])) for label in order]
    if any(len(budget.attacks) > 1 for budget in budgets):
        curves.append(Curve("Worst case", tuple(worst)))
    known = first.norm == "linf" and first.model.dataset in DATASETS
    standard = DATASETS[first.model.dataset].eps if known else None
    return Sweep(
        f"{first.name} on {first.title}, {first.threat}, n = {first.model.n}",
        standard,
        tuple(curves),
    )


def paper_figures(
    evidence: Evidence,
    datasets: Sequence[str] = (),
    *,
    scale: Scale | None = None,
    seed: int | None = None,
) -> Iterator[PageFigure]:
    """The paper's figures, one per data set, if more than half of it is stored.

    What other figures and tables have made for themselves is not yet a figure.

    Args:
        evidence: all that is stored.
        datasets: to show; by default all there are.
        scale: of the recipes; by default the most faithful one stored.
        seed: of the recipes' training; any by default.

    Raises:
        UserError: there is no such data set, or a file is damaged.
    """
    for number in FIGURES:
        for name in datasets or DATASETS:
            figure = report_figure(number, evidence, [name], scale=scale, seed=seed)
            if figure.stored > figure.missing:
                title = f"{figure.title}: {dataset_spec(name).title}"
                commands = tuple(section.command for section in figure.sections)
                yield PageFigure(title, figure.drawing, figure.caption, commands)


def table_figures(tables: Sequence[Table]) -> Iterator[PageFigure]:
    """Bars for Table 3 and a heat map for a transfer matrix, where anything is measured."""
    for table in tables:
        for section in table.sections:
            if section.scale and table.number == 3:
                yield PageFigure(
                    f"White-box attacks on {section.title}",
                    _attack_bars(section),
                    f"Accuracy with {percent('95')} intervals, {section.heading}.",
                )
            if section.scale and table.is_matrix:
                yield PageFigure(
                    f"Transfer on {section.title}",
                    _transfer_map(section),
                    f"Accuracy on PGD images, {section.heading}{_widest(section)}. "
                    "Framed: white-box.",
                )


def _widest(section: Section) -> str:
    """How far a number may be off, for a figure that has no room for intervals."""
    halves = [(e.interval[1] - e.interval[0]) / 2 for e in section.entries if e.interval]
    return f", the widest {percent('95')} interval ±{max(halves):.1f} points" if halves else ""


def _attack_bars(section: Section) -> Drawing:
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
    return bars(
        groups,
        {
            label: [Bar(entry.measured, entry.interval, entry.published) for entry in entries]
            for label, entries in rows.items()
        },
    )


def _transfer_map(section: Section) -> Drawing:
    """Accuracy of each target on images made on each source; white-box attacks are framed."""
    rows = [row for row in section.rows if not row.entries[0].is_summary]
    return heat_map(
        [row.heading.label for row in rows],
        [entry.column.label for entry in rows[0].entries],
        [[Square(entry.measured, entry.cell.white_box) for entry in row.entries] for row in rows],
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
            row["target"]: row["history"]
            for row in evidence.trainings.to_dict("records")
            if (row["dataset"], row["scale"]) == (dataset, scale)
            and seed in (None, row["seed"])
            and row["history"]
        }
        caption = f"Cross-entropy and accuracy on the training images, {scale} scale."
        if len(runs) > MOST_CURVES:
            main = {
                position.cell.target
                for number in MAIN_TABLES
                for position in published(number).positions(dataset)
            }
            runs = {name: history for name, history in runs.items() if name in main}
            caption += f" Only the recipes of Tables {listed(map(str, MAIN_TABLES))}."
        if runs:
            yield PageFigure(f"Training on {title}", training_curves(runs), caption)
