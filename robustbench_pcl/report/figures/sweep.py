"""Accuracy against the attack's budget, a curve an attack (Figure 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from robustbench_pcl.report.figures.drawing import COLOURS, INK, Drawing, ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (5.4, 3.6)
MARKERS = "osD^vP"
LINES = ("-", "--", "-.", ":")


class Point(NamedTuple):
    """Accuracy under one budget.

    Attributes:
        eps: in pixels of [0, 1].
        accuracy: per cent.
        interval: 95 % interval in per cent.
    """

    eps: float
    accuracy: float
    interval: tuple[float, float]


class Curve(NamedTuple):
    """One attack under rising budgets; what is not measured is left out."""

    label: str
    points: tuple[Point, ...]


class Sweep(NamedTuple):
    """The curves of one data set.

    Attributes:
        title: over the plot; "" for none.
        standard: the data set's standard budget, in pixels of [0, 1].
        curves: the first is the single-step attack.
        command: measures what is missing; "" if nothing is.
    """

    title: str
    standard: float
    curves: tuple[Curve, ...]
    command: str = ""


def sweep(sweeps: Sequence[Sweep]) -> Drawing:
    """A plot a data set, one below the other."""

    def paint(figure: Figure) -> None:
        plots = figure.subplots(len(sweeps), 1, squeeze=False)[:, 0]
        for axes, each in zip(plots, sweeps, strict=True):
            _plot(axes, each)

    return Drawing(paint, (SIZE[0], SIZE[1] * len(sweeps)))


def _plot(axes: Axes, each: Sweep) -> None:
    for number, curve in enumerate(each.curves):
        colour, line = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
        eps = [point.eps for point in curve.points]
        axes.fill_between(
            eps,
            [point.interval[0] for point in curve.points],
            [point.interval[1] for point in curve.points],
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
        axes.plot(
            eps,
            [point.accuracy for point in curve.points],
            color=colour,
            linestyle=line,
            marker=MARKERS[number % len(MARKERS)],
            markersize=4.5,
            label=curve.label,
        )
    axes.axvline(each.standard, color=INK, alpha=0.5, linewidth=0.8, linestyle=(0, (1, 3)))
    axes.annotate(
        "standard",
        (each.standard, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, -2),
        textcoords="offset points",
        va="top",
        color=INK,
        fontsize=8.5,
    )
    axes.set_ylim(0, 102)
    axes.set_xlim(left=0)
    axes.set_xlabel("eps, in pixels of [0, 1]")
    axes.set_ylabel("accuracy (%)")
    axes.set_title(each.title, fontweight="bold")
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
    if any(curve.points for curve in each.curves):
        axes.legend(frameon=False, labelcolor=INK, loc="upper right")
    else:
        words = "not measured yet"
        axes.text(0.5, 0.55, words, ha="center", color=INK, transform=axes.transAxes)
    if each.command:
        axes.set_xlabel(f"{axes.get_xlabel()}\n{each.command}")
    ink(axes)


def weaker_than_one_step(curves: Sequence[Curve]) -> Iterator[tuple[str, float]]:
    """Where an iterative attack leaves more than the single-step one, beyond their intervals.

    Args:
        curves: the first is the single-step attack's.

    Yields:
        The attack's label and the budget.
    """
    single, *iterative = curves
    highest = {point.eps: point.interval[1] for point in single.points}
    for curve in iterative:
        for point in curve.points:
            if point.interval[0] > highest.get(point.eps, 100.0):
                yield curve.label, point.eps
