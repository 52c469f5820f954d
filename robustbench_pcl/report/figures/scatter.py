"""Scatter plots of features beside and below one another (Figures 1, 4, 5 and 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from robustbench_pcl.report.figures.drawing import CLASS_COLOURS, INK, Drawing
from robustbench_pcl.report.figures.scatter_plot import Plot, paint_plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

WIDTH = 5.4
"""Inches of two panels side by side: words of 10 points are still read on a phone."""


class Block(NamedTuple):
    """The plots of one data set.

    Attributes:
        title: over the plots; "" for none.
        classes: numbers of the classes that are shown, in the order of their colours.
        names: what they are called.
        plots: from left to right, then from top to bottom.
        command: makes the plots that are missing; "" if none are.
    """

    title: str
    classes: tuple[int, ...]
    names: tuple[str, ...]
    plots: tuple[Plot, ...]
    command: str = ""


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
            _paint(part, block, columns)

    return Drawing(paint, (WIDTH * columns / 2, sum(heights)))


def _height(block: Block, columns: int) -> float:
    """Inches that a block takes."""
    rows = -(-len(block.plots) // columns)
    return (
        rows * (WIDTH / 2 + 0.2)
        + 0.3 * (bool(block.title) + bool(block.command))
        + 0.45 * _needs_legend(block)
    )


def _needs_legend(block: Block) -> bool:
    """Whether the classes' numbers do not say what they are."""
    return block.names != tuple(map(str, range(len(block.names))))


def _paint(part: SubFigure, block: Block, columns: int) -> None:
    rows = -(-len(block.plots) // columns)
    grid = part.subplots(rows, columns, squeeze=False).ravel()
    for axes, plot in zip(grid, block.plots, strict=False):
        paint_plot(axes, plot, block.classes)
    for axes in grid[len(block.plots) :]:
        axes.remove()
    if block.title:
        part.suptitle(block.title, color=INK, fontweight="bold")
    if _needs_legend(block):
        _legend(part, block.names)
    if block.command:
        part.supxlabel(block.command, color=INK, fontsize=8.5, family="monospace")


def _legend(part: SubFigure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

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
