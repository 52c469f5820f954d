"""Figures from stored records: the paper's, and a model's accuracy over the budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.figures import FIGURES, FeatureFigure, paper_figure
from robustbench_pcl.report.drawing import Drawing
from robustbench_pcl.report.figure_sections import (
    Block,
    FigureSection,
    figure_sections,
)
from robustbench_pcl.report.formatting import listed, percent
from robustbench_pcl.report.model_section import Budget
from robustbench_pcl.report.plots import Words, sweep
from robustbench_pcl.report.results import Evidence
from robustbench_pcl.report.scatter import scatter
from robustbench_pcl.report.sweeps import Curve, Point, Sweep, Sweeps

INTERVALS = f"Error bars: {percent('95')} Wilson intervals."


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
    models: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
) -> ReportFigure:
    """A figure of the paper, drawn as far as it is stored.

    Args:
        number: the paper's.
        evidence: all records there are.
        datasets: to show; by default all with anything stored, or the paper's if there is nothing.
        models: by name, instead of the figure's own, where it is one of accuracy over the budget.
        scale: of the recipes; by default for each data set the most faithful one stored.
        seed: of the recipes' training; any by default.

    Raises:
        UserError: there is no such figure or data set, a file is damaged, or the figure compares
            its panels and one is missing.
    """
    figure = paper_figure(number)
    sections = figure_sections(number, evidence, datasets, models=models, scale=scale, seed=seed)
    if isinstance(figure, FeatureFigure) and figure.compares:
        sections = _complete(number, sections)
    budgets = dict.fromkeys(f"{dataset_spec(section.dataset).eps:g}" for section in sections)
    sentences = [words for section in sections for words in section.sentences()]
    blocks = [section.part for section in sections if isinstance(section.part, Block)]
    sweeps = [section.part for section in sections if isinstance(section.part, Sweeps)]
    title = f"Figure {number}. {figure.title}"
    conditions = list(filter(None, (section.conditions for section in sections)))
    missing = [f"Not complete: {each.command}" for each in sections if each.missing]
    words = Words(
        f"{title}: {listed(dataset_spec(section.dataset).title for section in sections)}",
        " ".join(said for section in sections for said in section.part.sentences()),
        " ".join([*conditions, *[INTERVALS] * bool(sweeps and conditions), *missing]),
    )
    return ReportFigure(
        title=title,
        drawing=scatter(blocks, words) if blocks else sweep(sweeps, words),
        sections=tuple(sections),
        caption=" ".join([figure.caption.format(eps=listed(budgets)), *sentences]),
    )


def _complete(number: int, sections: Sequence[FigureSection]) -> list[FigureSection]:
    """The sections of a figure that compares its panels: those with all of them.

    Raises:
        UserError: there is none.
    """
    complete = [section for section in sections if not section.missing]
    if not complete:
        title = dataset_spec(sections[0].dataset).title
        raise UserError(
            f"Figure {number} compares its panels, and {title} has not all of them: "
            f"{sections[0].wanting}.",
            f"Make it with: {sections[0].command}",
        )
    return complete


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
    title = f"{names}: accuracy against the attack's budget"
    parts = [model_sweep(group) for group in groups.values()]
    description = " ".join(said for part in parts for said in part.sentences())
    note = f"White-box attacks. {INTERVALS}"
    return PageFigure(
        title=title,
        drawing=sweep(parts, Words(title, description, note)),
        caption=f"White-box attacks; error bars are {percent('95')} Wilson intervals. In the worst "
        "case an image counts only if it withstands every stored attack within the budget.",
    )


def model_sweep(budgets: Sequence[Budget]) -> Sweeps:
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
    size = f"{first.model.scale} scale, n = {first.model.n:,}"
    return Sweeps(
        f"{first.name} on {first.title}",
        (Sweep(f"{first.threat}, {size}", standard, tuple(curves)),),
    )


def paper_figures(
    evidence: Evidence,
    datasets: Sequence[str] = (),
    *,
    scale: Scale | None = None,
    seed: int | None = None,
) -> Iterator[PageFigure]:
    """The paper's figures, one per data set, if more than half of it is stored.

    What other figures and tables have made for themselves is not yet a figure, and a figure that
    compares its panels is none without one of them.

    Args:
        evidence: all that is stored.
        datasets: to show; by default all there are.
        scale: of the recipes; by default the most faithful one stored.
        seed: of the recipes' training; any by default.

    Raises:
        UserError: there is no such data set, or a file is damaged.
    """
    for number, paper in FIGURES.items():
        compares = isinstance(paper, FeatureFigure) and paper.compares
        for name in datasets or DATASETS:
            (section,) = figure_sections(number, evidence, [name], scale=scale, seed=seed)
            most = 0 if compares else len(section.images) - 1
            if section.images and len(section.missing) <= most:
                figure = report_figure(number, evidence, [name], scale=scale, seed=seed)
                title = f"{figure.title}: {dataset_spec(name).title}"
                commands = tuple(section.command for section in figure.sections)
                yield PageFigure(title, figure.drawing, figure.caption, commands)
