"""Figures as SVG, the same bytes for the same numbers, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from robustbench_pcl.report.figures.drawing import COLOURS, INK, LINES, Drawing, ink
from robustbench_pcl.report.formatting import MISSING, attack_label, show_measured
from robustbench_pcl.report.tables.model import Entry, ReportSection, Row
from robustbench_pcl.store.records import TrainingRecord

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.container import Container
    from matplotlib.figure import Figure


class Bar(NamedTuple):
    """One bar: the measured number, its 95 % interval, and the paper's number, in per cent."""

    measured: float | None
    interval: tuple[float, float] | None = None
    published: float | None = None


def attack_bars(section: ReportSection) -> str:
    """Accuracy under each white-box attack, a group of bars an attack and a bar a recipe.

    The paper's number is a line across the bar; the last group is the worst case over the stored
    white-box attacks, where there are any.

    Args:
        section: of a table with recipes in rows and attacks in columns (Table 3).

    Returns:
        SVG.
    """
    names = [
        attack_label(entry.cell.attack) if entry.cell.attack else "No attack"
        for entry in _white_box(section.rows[0])
    ]
    if any(row.worst_case for row in section.rows):
        names.append("Worst case")

    def draw(axes: Axes) -> None:
        width = 0.8 / len(section.rows)
        handles: list[Artist | Container] = []
        for number, row in enumerate(section.rows):
            bars = _bars(row)[: len(names)]
            places = [place - 0.4 + (number + 0.5) * width for place in range(len(bars))]
            drawn = axes.bar(
                places,
                [bar.measured or 0 for bar in bars],
                width * 0.9,
                yerr=_errors(bars),
                color=COLOURS[number % len(COLOURS)],
                ecolor=INK,
                error_kw={"elinewidth": 0.8},
                label=row.heading.label,
            )
            handles.append(drawn)
            for place, bar in zip(places, bars, strict=True):
                if bar.measured is None:
                    axes.text(place, 1, MISSING, ha="center", color=INK)
                if bar.published is not None:
                    reach = [place - width * 0.45, place + width * 0.45]
                    axes.plot(reach, [bar.published] * 2, color=INK, linewidth=1.8)
        if any(entry.published is not None for entry in section.entries):
            handles += axes.plot([], [], color=INK, linewidth=1.8, label="the paper's numbers")
        axes.set_xticks(range(len(names)), names)
        axes.set_ylim(0, 100)
        axes.set_ylabel("accuracy (%)")
        axes.legend(
            handles=handles,
            ncols=3,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            frameon=False,
            labelcolor=INK,
        )

    return _svg(draw, (7.2, 3.4))


def _white_box(row: Row) -> list[Entry]:
    return [entry for entry in row.entries if entry.cell.attack is None or entry.white_box]


def _bars(row: Row) -> list[Bar]:
    """The row's white-box numbers and its worst case."""
    bars = [Bar(entry.measured, entry.interval, entry.published) for entry in _white_box(row)]
    return [*bars, Bar(row.worst_case.accuracy if row.worst_case else None)]


def _errors(bars: Sequence[Bar]) -> list[list[float]]:
    """Distances from the measured values down and up to their 95 % intervals."""
    pairs = [
        (bar.measured - bar.interval[0], bar.interval[1] - bar.measured)
        if bar.interval and bar.measured is not None
        else (0.0, 0.0)
        for bar in bars
    ]
    return [[max(low, 0) for low, _ in pairs], [max(high, 0) for _, high in pairs]]


def transfer_heat_map(section: ReportSection) -> str:
    """Accuracy of each target on images crafted on each source; the diagonal is framed.

    Args:
        section: of a table with sources in rows and targets in columns (Table 13).

    Returns:
        SVG.
    """
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    shade = colormaps["cividis"]

    def draw(axes: Axes) -> None:
        for y, row in enumerate(section.rows):
            for x, entry in enumerate(row.entries):
                if entry.measured is None:
                    colour = INK
                else:
                    colour = "#000000" if entry.measured > 50 else "#ffffff"
                    fill = shade(entry.measured / 100)
                    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=fill))
                axes.text(
                    x, y, show_measured(entry.measured), ha="center", va="center", color=colour
                )
                if entry.white_box:
                    corner, side = (x - 0.46, y - 0.46), 0.92
                    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour))
        axes.set_xlim(-0.5, len(section.rows[0].entries) - 0.5)
        axes.set_ylim(len(section.rows) - 0.5, -0.5)
        columns = [entry.column.label for entry in section.rows[0].entries]
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(section.rows)), [row.heading.label for row in section.rows])
        axes.set_xlabel("target")
        axes.set_ylabel("source")

    size = len(section.rows)
    return _svg(draw, (2.6 + 1.1 * size, 1.4 + 0.62 * size), grid=False)


def training_curves(trainings: Sequence[TrainingRecord]) -> str:
    """Cross-entropy and training accuracy over the epochs, a line a run.

    Args:
        trainings: runs whose history has ``epoch``, ``cross_entropy`` and ``training_accuracy``
            (a fraction); what an epoch lacks is left out.

    Returns:
        SVG.
    """
    from matplotlib.ticker import MaxNLocator

    def draw(left: Axes, right: Axes) -> None:
        for number, record in enumerate(trainings):
            colour = COLOURS[number % len(COLOURS)]
            line = LINES[number // len(COLOURS) % len(LINES)]
            entropy, accuracy = (
                _curve(record, name) for name in ("cross_entropy", "training_accuracy")
            )
            left.plot(*entropy, color=colour, linestyle=line, label=record.recipe.name)
            right.plot(
                accuracy[0], [100 * value for value in accuracy[1]], color=colour, linestyle=line
            )
        left.set_ylabel("cross-entropy")
        right.set_ylabel("training accuracy (%)")
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.figure.legend(
            ncols=min(len(trainings), 4), loc="outside upper center", frameon=False, labelcolor=INK
        )

    return _svg(draw, (7.2, 3.0), columns=2)


def _curve(record: TrainingRecord, name: str) -> tuple[list[float], list[float]]:
    points = [(entry["epoch"], entry[name]) for entry in record.history if name in entry]
    return [epoch for epoch, _ in points], [value for _, value in points]


def _svg(
    draw: Callable[..., None], size: tuple[float, float], columns: int = 1, grid: bool = True
) -> str:
    """Draw on axes side by side and return the figure as SVG."""

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, columns, squeeze=False)[0]
        draw(*panels)
        for axes in panels:
            ink(axes)
            if grid:
                axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)

    return Drawing(paint, size).svg()
