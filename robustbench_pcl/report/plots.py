"""Plots of numbers: bars, a heat map, training curves, accuracy against the attack's budget."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from robustbench_pcl.report.drawing import (
    COLOURS,
    HATCHES,
    INK,
    LINES,
    MARKERS,
    SMALL,
    WIDTH,
    Drawing,
    above_legend,
    grid,
    ink,
    legend,
    legend_height,
    mark,
    readable_on,
)
from robustbench_pcl.report.formatting import MISSING, show_interval, show_measured
from robustbench_pcl.report.sweeps import Curve, Sweep, Sweeps

BAR = 0.13
"""Inches that a bar takes."""
PLOT_HEIGHT = 1.9
"""Inches of one of two plots beside one another, with its title and the words below it."""
INTERVAL: Mapping[str, Any] = {"elinewidth": 0.9, "capsize": 1.8}
"""How an interval looks."""
TITLE = 50
"""Letters of a line of a title."""
LABEL = 13
"""Letters of a line below a column of a heat map."""


class Bar(NamedTuple):
    """One bar, in per cent.

    Attributes:
        measured: its length; None for no bar.
        interval: 95 % interval.
        published: the paper's number.
    """

    measured: float | None
    interval: tuple[float, float] | None = None
    published: float | None = None


class Square(NamedTuple):
    """One square of a heat map.

    Attributes:
        value: per cent.
        framed: whether it has a frame.
        interval: 95 % interval in per cent.
    """

    value: float | None
    framed: bool = False
    interval: tuple[float, float] | None = None


class Words(NamedTuple):
    """What stands with a drawing: see :class:`Drawing`."""

    title: str
    description: str = ""
    note: str = ""


def bars(groups: Sequence[str], series: Mapping[str, Sequence[Bar]], words: Words) -> Drawing:
    """Groups of bars below one another; the paper's number is a line across its bar.

    Args:
        groups: what stands beside each group.
        series: label -> one bar per group, in its own colour and hatch.
        words: what stands with it.
    """
    width = 0.8 / len(series)
    has_published = any(bar.published is not None for each in series.values() for bar in each)
    labels = [*series, *("the paper's numbers",) * has_published]

    height = len(groups) * (0.1 + max(BAR * len(series), 0.16)) * 1.1 + 0.65

    def paint(figure: Figure) -> None:
        above, below = above_legend(figure, height, labels)
        axes = above.subplots()
        for number, (label, each) in enumerate(series.items()):
            places = [place - 0.4 + (number + 0.5) * width for place in range(len(each))]
            _paint_series(axes, number, label, dict(zip(places, each, strict=True)), width)
        if has_published:
            axes.plot([], [], color=INK, linewidth=1.8, label="the paper's numbers")
        axes.set_yticks(range(len(groups)), groups)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_xlim(0, 102)
        axes.set_xlabel("accuracy (%)")
        grid(axes, "x")
        ink(axes)
        named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        legend(below, [named[label] for label in labels], labels)

    return Drawing(paint, (WIDTH, height + legend_height(labels)), *words)


def _paint_series(
    axes: Axes, number: int, label: str, placed: Mapping[float, Bar], width: float
) -> None:
    """The bars of one colour, with what belongs to each."""
    axes.barh(
        list(placed),
        [bar.measured or 0 for bar in placed.values()],
        width * 0.9,
        color=COLOURS[number % len(COLOURS)],
        hatch=HATCHES[number % len(HATCHES)],
        edgecolor="white",
        linewidth=0,
        label=label,
    )
    for place, bar in placed.items():
        if bar.measured is None:
            axes.text(1, place, MISSING, va="center_baseline", color=INK, fontsize=SMALL)
        if bar.interval and bar.measured is not None:
            ends = reach([bar.measured], [bar.interval])
            axes.errorbar(
                [bar.measured], [place], xerr=ends, linestyle="none", color=INK, **INTERVAL
            )
        if bar.published is not None:
            reach_up = [place - width * 0.45, place + width * 0.45]
            axes.plot([bar.published] * 2, reach_up, color=INK, linewidth=1.8)


def reach(values: Sequence[float], intervals: Iterable[tuple[float, float]]) -> list[list[float]]:
    """Distances from values down and up to the ends of their intervals."""
    pairs = list(zip(values, intervals, strict=True))
    return [
        [max(value - low, 0) for value, (low, _) in pairs],
        [max(high - value, 0) for value, (_, high) in pairs],
    ]


def points(
    axes: Axes,
    places: Sequence[float],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    *,
    number: int,
    label: str = "",
    line: str | None = None,
) -> None:
    """Measured accuracies with their intervals, and a line through them.

    Args:
        axes: where.
        places: of the points, from left to right.
        values: per cent.
        intervals: 95 % intervals in per cent.
        number: decides colour, marker and dash.
        label: in the legend.
        line: another dash, "none" for no line.
    """
    axes.errorbar(
        places,
        values,
        yerr=reach(values, intervals),
        **INTERVAL,
        color=COLOURS[number % len(COLOURS)],
        linestyle=line or LINES[number % len(LINES)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4,
        linewidth=1.3,
        label=label,
    )


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    squares: Sequence[Sequence[Square]],
    words: Words,
) -> Drawing:
    """Accuracy of each target on images made on each source.

    Args:
        rows: the sources, from top to bottom.
        columns: the targets, from left to right.
        squares: one sequence per row.
        words: what stands with it.
    """

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for y, line in enumerate(squares):
            for x, square in enumerate(line):
                _paint_square(axes, x, y, square)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xticks(range(len(columns)), [_broken(name) for name in columns], fontsize=SMALL)
        axes.set_yticks(range(len(rows)), [_broken(name) for name in rows], fontsize=SMALL)
        axes.set_xlabel("target")
        axes.set_ylabel("source")
        ink(axes)

    width = max(WIDTH, 1.3 + 0.95 * len(columns))
    lines = max(_broken(name).count("\n") for name in columns)
    return Drawing(paint, (width, 0.75 + 0.14 * lines + 0.55 * len(rows)), *words)


def _paint_square(axes: Axes, x: int, y: int, square: Square) -> None:
    """A square in the colour of its value, with the value and its interval."""
    colour = INK
    if square.value is not None:
        shade = to_hex(colormaps["cividis"](square.value / 100))
        colour = readable_on(shade)
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=shade))
    up = 0.15 if square.interval else 0
    axes.text(
        x, y - up, show_measured(square.value), ha="center", va="center", color=colour, fontsize=10
    )
    if square.interval:
        ends = show_interval(square.interval).replace(" to ", "\N{EN DASH}")
        place = x, y + 0.22
        axes.text(*place, ends, ha="center", va="center", color=colour, fontsize=SMALL)
    if square.framed:
        corner, side = (x - 0.46, y - 0.46), 0.92
        axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour))


def _broken(name: str) -> str:
    """A name in lines that fit below a column."""
    return "\n".join(textwrap.wrap(name, LABEL, break_on_hyphens=True))


def training_curves(runs: Mapping[str, Sequence[Mapping[str, float]]], words: Words) -> Drawing:
    """Cross-entropy and training accuracy over the epochs, one line per run.

    Args:
        runs: label -> one mapping per epoch with ``epoch``, ``cross_entropy`` and
            ``training_accuracy`` (a fraction); what an epoch lacks is left out.
        words: what stands with it.
    """
    height = 2.4

    def paint(figure: Figure) -> None:
        above, below = above_legend(figure, height, list(runs))
        left, right = above.subplots(1, 2)
        for number, (label, history) in enumerate(runs.items()):
            colour = COLOURS[number % len(COLOURS)]
            # One more from the last colour on: it resembles the second one.
            line = LINES[(number + (number + 1) // len(COLOURS)) % len(LINES)]
            epochs, values = _curve(history, "cross_entropy")
            left.plot(epochs, values, color=colour, linestyle=line, label=label)
            epochs, values = _curve(history, "training_accuracy")
            right.plot(epochs, [100 * value for value in values], color=colour, linestyle=line)
        left.set_title("cross-entropy", fontsize=10)
        right.set_title("training accuracy (%)", fontsize=10)
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            grid(axes)
            ink(axes)
        legend(below, *left.get_legend_handles_labels())

    return Drawing(paint, (WIDTH, height + legend_height(list(runs))), *words)


def _curve(history: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    found = [(entry["epoch"], entry[name]) for entry in history if name in entry]
    return [epoch for epoch, _ in found], [value for _, value in found]


def sweep(parts: Sequence[Sweeps], words: Words) -> Drawing:
    """Accuracy against the attack's budget: the plots of each part, and a legend below them.

    Args:
        parts: one below the other.
        words: what stands with it.
    """
    heights = [_sweeps_height(part) + legend_height(_labels(part)) for part in parts]

    def paint(figure: Figure) -> None:
        places = figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False)[:, 0]
        for place, part in zip(places, parts, strict=True):
            _paint_sweeps(place, part)

    return Drawing(paint, (WIDTH, sum(heights)), *words)


def _labels(part: Sweeps) -> list[str]:
    """What the legend names: curves with points, each once."""
    return list(
        dict.fromkeys(curve.label for plot in part.plots for curve in plot.curves if curve.points)
    )


def _sweeps_height(part: Sweeps) -> float:
    """Inches that a part takes without its legend."""
    rows = -(-len(part.plots) // 2)
    return 0.55 + (PLOT_HEIGHT + 0.7 * (len(part.plots) == 1)) * rows


def _paint_sweeps(place: SubFigure, part: Sweeps) -> None:
    columns = min(2, len(part.plots))
    rows = -(-len(part.plots) // columns)
    labels, below = _labels(part), None
    if labels:
        place, below = above_legend(place, _sweeps_height(part), labels)
    axes = place.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    colours = list(
        dict.fromkeys(
            curve.label for plot in part.plots for curve in plot.curves if not curve.published
        )
    )
    handles: dict[str, Any] = {}
    for each, plot in zip(axes, part.plots, strict=False):
        _paint_sweep(each, plot, colours)
        lines = textwrap.wrap(plot.title, TITLE // columns - 4)
        each.set_title("\n".join(lines), fontsize=10, pad=18 if plot.standard is not None else 6)
        found, names = each.get_legend_handles_labels()
        handles.update(zip(names, found, strict=True))
    for each in axes[len(part.plots) :]:
        each.remove()
    title = "\n".join(textwrap.wrap(part.title, TITLE))
    place.suptitle(title, color=INK, fontweight="bold", fontsize=10)
    place.supxlabel("eps, in pixels of [0, 1]", color=INK, fontsize=10)
    place.supylabel("accuracy (%)", color=INK, fontsize=10)
    if below:
        legend(below, [handles[label] for label in labels], labels)


def _paint_sweep(axes: Axes, plot: Sweep, colours: Sequence[str]) -> None:
    """A plot's curves, those of one name in one colour."""
    number = 0
    for curve in plot.curves:
        if curve.published:
            _paint_published(axes, number, curve)
            continue
        number = colours.index(curve.label)
        if curve.points:
            intervals = [point.interval or (point.accuracy,) * 2 for point in curve.points]
            eps, values = zip(*((point.eps, point.accuracy) for point in curve.points), strict=True)
            points(axes, eps, values, intervals, number=number, label=curve.label)
    if plot.standard is not None:
        mark(axes, plot.standard, "standard")
    axes.set_ylim(-2, 102)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelleft=True)
    grid(axes)
    if not any(curve.points for curve in plot.curves):
        words = "not measured yet"
        axes.text(0.5, 0.5, words, ha="center", color=INK, transform=axes.transAxes)
    ink(axes)


def _paint_published(axes: Axes, number: int, curve: Curve) -> None:
    """The paper's numbers: hollow markers on a dotted line."""
    axes.plot(
        [point.eps for point in curve.points],
        [point.accuracy for point in curve.points],
        color=COLOURS[number % len(COLOURS)],
        linestyle=":",
        marker=MARKERS[number % len(MARKERS)],
        markersize=5,
        markerfacecolor="none",
        linewidth=1.0,
        label=curve.label,
    )
