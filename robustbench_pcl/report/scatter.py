"""Scatter plots of features beside and below one another (Figures 1, 4, 5 and 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from robustbench_pcl.report.drawing import CLASS_COLOURS, INK, Drawing, dots, ink
from robustbench_pcl.report.figure_parts import Block, Plot
from robustbench_pcl.report.regions import Window, class_regions, number_places, window_of
from robustbench_pcl.store.embeddings import Array, Layout

WIDTH = 5.4
"""Inches of two panels side by side: words of 10 points are still read on a phone."""
ROUNDS = 4
"""In which points are drawn, so that no class lies on top of another everywhere."""


def scatter(blocks: Sequence[Block]) -> Drawing:
    """One data set's plots two in a row; those of several data sets in a row each.

    Args:
        blocks: from top to bottom.
    """
    columns = 2 if len(blocks) == 1 else max(len(block.plots) for block in blocks)
    heights = [_height(block, columns) for block in blocks]

    def paint(figure: Figure) -> None:
        parts = figure.subfigures(len(blocks), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, block in zip(parts, blocks, strict=True):
            _paint_block(part, block, columns)

    return Drawing(paint, (WIDTH * columns / 2, sum(heights)))


def _height(block: Block, columns: int) -> float:
    """Inches that a block takes."""
    rows = -(-len(block.plots) // columns)
    return rows * (WIDTH / 2 + 0.2) + 0.3 * (1 + bool(block.command)) + 0.45 * _needs_legend(block)


def _needs_legend(block: Block) -> bool:
    """Whether the classes' numbers do not say what they are."""
    return block.names != tuple(map(str, range(len(block.names))))


def _paint_block(part: SubFigure, block: Block, columns: int) -> None:
    rows = -(-len(block.plots) // columns)
    grid = part.subplots(rows, columns, squeeze=False).ravel()
    for axes, plot in zip(grid, block.plots, strict=False):
        _paint_plot(axes, plot, block.classes)
    for axes in grid[len(block.plots) :]:
        axes.remove()
    part.suptitle(block.title, color=INK, fontweight="bold")
    if _needs_legend(block):
        _legend(part, block.names)
    if block.command:
        part.supxlabel(block.command, color=INK, fontsize=8.5, family="monospace")


def _legend(part: SubFigure, names: Sequence[str]) -> None:
    handles = [
        Line2D([], [], marker="o", linestyle="", color=CLASS_COLOURS[number], label=label)
        for number, label in ((n, f"{n} {name}") for n, name in enumerate(names))
    ]
    part.legend(
        handles=handles,
        ncols=5,
        loc="outside lower center",
        frameon=False,
        labelcolor=INK,
        fontsize=8.5,
        handletextpad=0,
        columnspacing=0.8,
    )


def _paint_plot(axes: Axes, plot: Plot, classes: Sequence[int]) -> None:
    """Paint a plot: regions, points, prototypes, and the classes' numbers.

    Args:
        axes: empty.
        plot: what is seen.
        classes: those that are shown, in the order of their colours.
    """
    _frame(axes, plot.title)
    layout = plot.layout
    if layout is None:
        axes.text(0.5, 0.5, "not stored yet", ha="center", color=INK, transform=axes.transAxes)
        return
    window = plot.window or window_of(layout.with_anchors(classes))
    axes.set_xlim(window.x)
    axes.set_ylim(window.y)
    regions = {} if layout.head is None else class_regions(layout.head, window)
    for number, corners in regions.items():
        if number in classes:
            colour = CLASS_COLOURS[classes.index(number)]
            axes.fill(*corners.T, color=colour, alpha=0.22, linewidth=0)
    _points(axes, layout, classes)
    if layout.anchors is not None:
        for number, (x, y) in enumerate(layout.anchors[list(classes)]):
            axes.plot(x, y, "X", color=CLASS_COLOURS[number], markersize=7, markeredgecolor=INK)
    for number, place in _places(layout, classes, window, regions).items():
        _name(axes, number, place)


def _frame(axes: Axes, title: str) -> None:
    """An empty square below its title: the axes' units mean nothing."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_box_aspect(1)
    for spine in axes.spines.values():
        spine.set(visible=True, alpha=0.4)
    ink(axes)
    axes.set_title(title, fontsize=10)


def _points(axes: Axes, layout: Layout, classes: Sequence[int]) -> None:
    """Dots in their class's colour, with a ring where the image is given another class."""
    diameter = float(np.clip(70 / np.sqrt(len(layout.points)), 2.2, 4.5))
    ring = 0.3 + 0.3 * diameter
    for start in range(ROUNDS):
        part = slice(start, None, ROUNDS)
        points, labels = layout.points[part], layout.labels[part]
        dots(axes, points[layout.predictions[part] != labels], INK, diameter + ring)
        for number, label in enumerate(classes):
            dots(axes, points[labels == label], CLASS_COLOURS[number], diameter)


def _places(
    layout: Layout, classes: Sequence[int], window: Window, regions: dict[int, Array]
) -> dict[int, Array]:
    """Where each class's number goes: into its region, or else beside its points."""
    shown = layout.with_anchors(classes)
    if not regions:
        return number_places(_middles(layout, classes), shown, window)
    middles = {
        number: regions[label].mean(axis=0)
        for number, label in enumerate(classes)
        if label in regions
    }

    def own_region(number: int, place: Array) -> bool:
        assert layout.head is not None  # or there were no regions
        logits = layout.head @ np.append(place, 1)
        return bool(logits.argmax() == classes[number])

    return number_places(middles, shown, window, own_region)


def _middles(layout: Layout, classes: Sequence[int]) -> dict[int, Array]:
    """The middle of each class's points, of classes that have some."""
    return {
        number: np.median(layout.points[layout.labels == label], axis=0)
        for number, label in enumerate(classes)
        if (layout.labels == label).any()
    }


def _name(axes: Axes, number: int, place: Array) -> None:
    colour = CLASS_COLOURS[number]
    brightness = sum(
        share * int(colour[at : at + 2], 16) for share, at in ((0.299, 1), (0.587, 3), (0.114, 5))
    )
    axes.text(
        float(place[0]),
        float(place[1]),
        str(number),
        fontsize=8,
        fontweight="bold",
        ha="center",
        va="center",
        color="#000000" if brightness > 130 else "#ffffff",
        bbox={"boxstyle": "round,pad=0.2", "facecolor": colour, "edgecolor": INK, "linewidth": 0.6},
        clip_on=True,
    )
