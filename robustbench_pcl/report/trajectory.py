"""A long training, looked at on the way: accuracy under each attack over its steps, and margins."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustbench_pcl.attacks.base import attack_label
from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.report.figures import PageFigure
from robustbench_pcl.report.formatting import listed, percent, show_budget
from robustbench_pcl.report.plots import COLOURS, INK, LINES, MARKERS, Drawing, ink
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
        curves: by attack, the points in the order of their steps.
        margins: steps -> percentiles of clean logit margins (``MARGIN_PERCENTILES``).
    """

    title: str
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
    return PageFigure(
        title=f"{listed(names)}: accuracy over training steps",
        drawing=_drawn(plots),
        caption=f"White-box attacks; bars: {percent('95')} intervals. Beneath, logit margins of "
        f"clean images: median, and {percent('50')} and {percent('90')} of them. From a margin of "
        f"{ROUNDS_TO_ONE:.0f} on, a label's float32 probability is 1 and its own gradient 0.",
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
        title=f"{recipe.model} on {dataset_spec(recipe.dataset).title}\n"
        f"{show_budget(eps, None)}, n = {n}, {recipe.scale} scale",
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


def _drawn(plots: Sequence[TrajectoryPlot]) -> Drawing:
    labels = list(dict.fromkeys(label for plot in plots for label in plot.curves))

    def paint(figure: Figure) -> None:
        axes = figure.subplots(
            2, len(plots), squeeze=False, sharex="col", height_ratios=[3, 2], sharey="row"
        )
        for upper, lower, plot in zip(*axes, plots, strict=True):
            first = min(count for curve in plot.curves.values() for count, *_ in curve if count)
            upper.set_xscale("symlog", linthresh=first, linscale=0.5)
            _paint_accuracies(upper, plot, labels)
            _paint_margins(lower, plot)
            for each in (upper, lower):
                each.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
                ink(each)
        axes[0, 0].set_ylabel("accuracy (%)")
        axes[1, 0].set_ylabel("logit margin")
        handles = {line.get_label(): line for upper in axes[0] for line in upper.get_lines()}
        figure.legend(
            [handles[label] for label in labels],
            labels,
            ncols=min(len(labels), 3),
            loc="outside upper center",
            frameon=False,
            labelcolor=INK,
        )

    return Drawing(paint, (max(5.0, 3.6 * len(plots)), 5.4))


def _paint_accuracies(axes: Axes, plot: TrajectoryPlot, labels: Sequence[str]) -> None:
    for label, curve in plot.curves.items():
        number = labels.index(label)
        colour = COLOURS[number % len(COLOURS)]
        steps = [point.steps for point in curve]
        low, high = ([point.interval[end] for point in curve] for end in (0, 1))
        axes.vlines(steps, low, high, color=colour, alpha=0.4, linewidth=1.2)
        axes.plot(
            steps,
            [point.accuracy for point in curve],
            color=colour,
            linestyle=LINES[number % len(LINES)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            label=label,
        )
    axes.set_ylim(-2, 102)
    axes.set_title(plot.title, fontsize=9.5)


def _paint_margins(axes: Axes, plot: TrajectoryPlot) -> None:
    steps, colour = list(plot.margins), COLOURS[0]
    if steps:
        found = dict(zip(MARGIN_PERCENTILES, zip(*plot.margins.values(), strict=True), strict=True))
        axes.fill_between(steps, found[5], found[95], color=colour, alpha=0.15, linewidth=0)
        axes.fill_between(steps, found[25], found[75], color=colour, alpha=0.25, linewidth=0)
        axes.plot(steps, found[50], color=colour, marker=".", markersize=5)
    axes.axhline(ROUNDS_TO_ONE, color=INK, alpha=0.6, linewidth=0.8, linestyle=(0, (1, 3)))
    axes.set_xlabel("training steps of the joint loss")
