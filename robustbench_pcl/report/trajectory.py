"""A long training, looked at on the way: accuracy under each attack over its steps, and margins."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from robustbench_pcl.attacks.base import attack_label
from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.report.drawing import (
    COLOURS,
    INK,
    WIDTH,
    Drawing,
    above_legend,
    grid,
    ink,
    legend,
    legend_height,
)
from robustbench_pcl.report.figures import PageFigure
from robustbench_pcl.report.formatting import listed, percent, show_budget
from robustbench_pcl.report.plots import points
from robustbench_pcl.report.results import RANK, Evidence, Record
from robustbench_pcl.store.rules import MARGIN_PERCENTILES

ROUNDS_TO_ONE = 24 * math.log(2)
"""The logit margin from which a label's float32 probability is 1, and its own gradient 0."""


class TrajectoryPoint(NamedTuple):
    """An accuracy after so many steps, in per cent."""

    steps: int
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class TrajectoryPlot:
    """What is stored of one training.

    Attributes:
        title: of what.
        conditions: data set, scale, budget and n.
        curves: by attack, the points in the order of their steps.
        margins: steps -> percentiles of clean logit margins (``MARGIN_PERCENTILES``).
    """

    title: str
    conditions: str
    curves: dict[str, tuple[TrajectoryPoint, ...]]
    margins: dict[int, tuple[float, ...]]


def trajectory_figure(
    evidence: Evidence,
    names: Sequence[str],
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
) -> PageFigure:
    """Accuracy over the steps of some trainings, and the logit margins of clean images beneath.

    A training is named by its last recipe; the recipes that it went on from are its points.

    Args:
        evidence: all that is stored.
        names: of recipes, one plot each.
        datasets: only these.
        scale: only recipes at this scale.
        seed: only trainings with this seed.

    Raises:
        UserError: nothing is stored of a training, or it has only one point.
    """
    plots = trajectory_plots(evidence, names, datasets, scale, seed)
    title = f"{listed(names)}: accuracy over training steps"
    return PageFigure(
        title=title,
        drawing=_drawn(plots, title),
        caption=f"White-box attacks; error bars are {percent('95')} Wilson intervals. Below, the "
        "logit margins of clean images: the line is the median, the bands hold "
        f"{percent('50')} and {percent('90')} of the images. From a margin of {ROUNDS_TO_ONE:.0f} "
        "on (dotted line), a label's float32 probability is 1 and its own gradient 0.",
    )


def trajectory_plots(
    evidence: Evidence,
    names: Sequence[str],
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seed: int | None = None,
) -> list[TrajectoryPlot]:
    """What is stored of some trainings, one plot for each data set and scale; arguments as above.

    Raises:
        UserError: nothing is stored of a training, or it has only one point.
    """
    return [
        _plot(evidence, recipe)
        for name in names
        for recipe in _recipes(evidence, name, datasets, scale, seed)
    ]


def _recipes(
    evidence: Evidence,
    name: str,
    datasets: Sequence[str],
    scale: Scale | None,
    seed: int | None,
) -> list[Recipe]:
    """The measured recipes of a name; of one data set and scale, the newest."""
    asked = [dataset_spec(dataset).name for dataset in datasets]
    found = {
        (dataset, size): row.recipe
        for (dataset, target, size), rows in evidence.records.items()
        for row in sorted(rows, key=lambda row: row.created)
        if target == name
        and isinstance(row.recipe, Recipe)
        and dataset in (asked or [dataset])
        and scale in (None, size)
        and seed in (None, row.seed)
    }
    if not found:
        raise UserError(
            f"There are no results for a training called {name!r}.",
            "Name the last recipe of one that was measured: pclbench report.",
        )
    return list(found.values())


def _chain(recipe: Recipe) -> Iterator[tuple[int, Recipe]]:
    """The points of a training with the steps of its loss up to each, the last first.

    The recipe that the loss started from is the point at 0 steps.
    """
    parts = [recipe]
    while parts[-1].goes_on and parts[-1].start:
        parts.append(parts[-1].start)
    steps = sum(map(_steps, parts))
    for part in parts:
        yield steps, part
        steps -= _steps(part)
    if parts[-1].start:
        yield 0, parts[-1].start


def _steps(recipe: Recipe) -> int:
    """The training steps of a recipe, without those of its start."""
    available = dataset_spec(recipe.dataset).train_images
    images = min(recipe.train_images or available, available)
    return recipe.schedule.epochs * math.ceil(images / recipe.schedule.batch_size)


def _plot(evidence: Evidence, recipe: Recipe) -> TrajectoryPlot:
    """What is stored of a training, at the budget of which most is."""
    steps = {part.id(""): count for count, part in _chain(recipe)}
    rows = [
        (steps[row.recipe.id("")], row)
        for (dataset, _, scale), each in evidence.records.items()
        for row in each
        if (dataset, scale) == (recipe.dataset, recipe.scale)
        and hasattr(row, "accuracy")
        and row.recipe.id("") in steps
    ]
    attacked = [(count, row) for count, row in rows if row.white_box and row.eps == row.eps]
    if len({count for count, _ in attacked}) < 2:
        raise UserError(
            f"{recipe.name} is a training with one point.",
            "Measure a trajectory first (docs/suites.md): pclbench run --suite suites/claim.toml",
        )
    budgets = Counter((row.norm, row.eps) for _, row in attacked)
    norm, eps = max(budgets, key=lambda budget: (budgets[budget], budget))
    within = [(count, row) for count, row in attacked if (row.norm, row.eps) == (norm, eps)]
    margins = {count: row.margins for count, row in rows if row.parameters is None and row.margins}
    n = max(row.n for _, row in within)
    return TrajectoryPlot(
        title=f"{recipe.name}, {recipe.model}",
        conditions=f"{dataset_spec(recipe.dataset).title}, {recipe.scale} scale, "
        f"{show_budget(eps, None)}, n = {n:,} images",
        curves=_curves(within),
        margins=dict(sorted(margins.items())),
    )


def _curves(rows: Iterable[tuple[int, Record]]) -> dict[str, tuple[TrajectoryPoint, ...]]:
    """Attacks with more than one point, as their lines end; of several sets the best made one."""
    best: dict[str, dict[int, Record]] = defaultdict(dict)
    for count, row in sorted(rows, key=lambda each: (RANK[each[1].mode], each[1].n)):
        said = {key: value for key, value in row.parameters.items() if key not in ("eps", "norm")}
        best[attack_label(said)][count] = row
    curves = {
        label: tuple(
            TrajectoryPoint(count, row.accuracy, (row.low, row.high))
            for count, row in sorted(points.items())
        )
        for label, points in best.items()
        if len(points) > 1
    }
    return dict(sorted(curves.items(), key=lambda item: -item[1][-1].accuracy))


def _drawn(plots: Sequence[TrajectoryPlot], title: str) -> Drawing:
    """Each training's accuracies above its margins, two trainings beside one another."""
    labels = list(dict.fromkeys(label for plot in plots for label in plot.curves))
    columns = min(2, len(plots))
    blocks = -(-len(plots) // columns)

    def paint(figure: Figure) -> None:
        above, below = above_legend(figure, 4.6 * blocks, labels)
        axes = above.subplots(2 * blocks, columns, squeeze=False, height_ratios=[3, 2] * blocks)
        for number, plot in enumerate(plots):
            row, column = 2 * (number // columns), number % columns
            _paint_plot(axes[row][column], axes[row + 1][column], plot, labels)
            if column == 0:
                axes[row][0].set_ylabel("accuracy (%)")
                axes[row + 1][0].set_ylabel("logit margin")
        for each in axes[-2:, len(plots) - columns * (blocks - 1) :].ravel():
            each.remove()
        found = [upper.get_legend_handles_labels() for upper in axes[::2].ravel() if upper.figure]
        handles = {label: one for each in found for one, label in zip(*each, strict=True)}
        legend(below, [handles[label] for label in labels], labels)

    ends = [
        f"{plot.title}: "
        + ", ".join(
            f"{label} from {curve[0].accuracy:.1f} to {percent(curve[-1].accuracy)}"
            for label, curve in plot.curves.items()
        )
        for plot in plots
    ]
    note = "; ".join(dict.fromkeys(plot.conditions for plot in plots))
    note += f". Error bars: {percent('95')} Wilson intervals."
    size = (WIDTH, 4.6 * blocks + legend_height(labels))
    return Drawing(paint, size, title, f"{'; '.join(ends)}.", note)


def _paint_plot(upper: Axes, lower: Axes, plot: TrajectoryPlot, labels: Sequence[str]) -> None:
    """The accuracies of a training, and the margins below them."""
    first = min(point.steps for curve in plot.curves.values() for point in curve if point.steps)
    for label, curve in plot.curves.items():
        values = [point.accuracy for point in curve]
        intervals = [point.interval for point in curve]
        steps = [point.steps for point in curve]
        points(upper, steps, values, intervals, number=labels.index(label), label=label)
    upper.set_ylim(-2, 102)
    upper.set_title(plot.title, fontsize=9)
    _paint_margins(lower, plot)
    for each in (upper, lower):
        each.set_xscale("symlog", linthresh=first, linscale=0.5)
        each.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        each.set_xlim(-0.1 * first, 1.4 * max(plot.margins or steps))
        grid(each)
        ink(each)
    lower.sharex(upper)
    upper.tick_params(labelbottom=False)


def _paint_margins(axes: Axes, plot: TrajectoryPlot) -> None:
    steps, colour = list(plot.margins), COLOURS[0]
    if steps:
        found = dict(zip(MARGIN_PERCENTILES, zip(*plot.margins.values(), strict=True), strict=True))
        axes.fill_between(steps, found[5], found[95], color=colour, alpha=0.15, linewidth=0)
        axes.fill_between(steps, found[25], found[75], color=colour, alpha=0.25, linewidth=0)
        axes.plot(steps, found[50], color=colour, marker="o", markersize=4)
    axes.axhline(ROUNDS_TO_ONE, color=INK, linewidth=0.8, linestyle=(0, (1, 3)))
    axes.set_xlabel("steps of the joint loss")
