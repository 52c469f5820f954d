"""Scatter plots of features beside and below one another (Figures 1, 4, 5 and 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from robustbench_pcl.report.drawing import (
    INK,
    SMALL,
    WIDTH,
    Drawing,
    above_legend,
    ink,
    legend,
    legend_height,
    readable_on,
)
from robustbench_pcl.report.figure_sections import Block, Plot
from robustbench_pcl.report.plots import Words
from robustbench_pcl.store.embeddings import Array, Layout

REACH = 0.042
"""How far a number and its frame reach, as a share of the window."""
FAR = 12.0
"""Hiding so many points is as bad as standing a window's width away."""
RADII = (0.0, 0.05, 0.065, 0.08, 0.1, 0.13, 0.17, 0.22, 0.28, 0.35)

ANGLES = 24

# Petroff's ten colours (2021), darker: each has a contrast of 3:1 to white and to its own shade.
CLASS_COLOURS = (
    "#2f78bd",
    "#a86a00",
    "#bd1f01",
    "#6d7c7a",
    "#832db6",
    "#93563f",
    "#c75300",
    "#85793c",
    "#3d4150",
    "#1f8a8e",
)
RING = "#0b0d10"
"""Of points that are given another class: panels are white in the dark, too."""

Allowed = Callable[[int, Array], bool]


class Window(NamedTuple):
    """A part of the plane, square so that distances look alike in both directions.

    Attributes:
        x: from left to right.
        y: from bottom to top.
    """

    x: tuple[float, float]
    y: tuple[float, float]


def window_of(points: Array) -> Window:
    """The smallest window with all points and a margin.

    Args:
        points: (N, 2).
    """
    low, high = points.min(axis=0), points.max(axis=0)
    half = max(0.54 * float((high - low).max()), 1e-6)
    x, y = ((low + high) / 2).tolist()
    return Window((x - half, x + half), (y - half, y + half))


def class_regions(head: Array, window: Window) -> dict[int, Array]:
    """The parts of a window where each class has the largest logit: convex polygons.

    Args:
        head: (K, 3), weights and bias of the layer.
        window: the part of the plane.

    Returns:
        Class -> corners (C, 2); classes without a part of the window are left out.
    """
    (left, right), (low, high) = window
    regions = {}
    for number, own in enumerate(head):
        corners = np.array([(left, low), (right, low), (right, high), (left, high)])
        for other, rival in enumerate(head):
            if other != number and len(corners):
                corners = _clipped(corners, own - rival)
        if len(corners):
            regions[number] = corners
    return regions


def _clipped(corners: Array, plane: Array) -> Array:
    """The part of a convex polygon where a x + b y + c >= 0 (Sutherland and Hodgman 1974)."""
    heights = corners @ plane[:2] + plane[2]
    kept = []
    for index, (corner, height) in enumerate(zip(corners, heights, strict=True)):
        before, before_height = corners[index - 1], heights[index - 1]
        if (height >= 0) != (before_height >= 0):
            share = before_height / (before_height - height)
            kept.append(before + share * (corner - before))
        if height >= 0:
            kept.append(corner)
    return np.array(kept).reshape(-1, 2)


def anywhere(_number: int, _place: Array) -> bool:
    """No place is refused."""
    return True


def number_places(
    targets: Mapping[int, Array], points: Array, window: Window, allowed: Allowed = anywhere
) -> dict[int, Array]:
    """A place for each number near its target, off the points, inside the window, on no other.

    Args:
        targets: number -> where it belongs, (2,).
        points: (N, 2), what should not be hidden.
        window: what is seen.
        allowed: whether a number may stand at a place, which is asked for every place but its
            target.

    Returns:
        Number -> its middle, (2,).
    """
    corner = np.array([window.x[0], window.y[0]])
    width = window.x[1] - window.x[0]
    obstacles = (points - corner) / width
    taken: list[Array] = []
    places = {}
    for number, target in targets.items():
        candidates = np.unique((target - corner) / width + _offsets(), axis=0)
        inside = (np.abs(candidates - 0.5) < 0.5 - REACH).all(axis=1)
        fitting = [
            place
            for place in candidates[inside]
            if allowed(number, corner + width * place) and not _hits(place, taken)
        ]
        start = (target - corner) / width
        best = min(fitting, key=lambda place: _cost(place, start, obstacles), default=start)
        taken.append(best)
        places[number] = corner + width * best
    return places


def _offsets() -> Array:
    angles = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.concatenate([radius * around for radius in RADII])


def _hits(place: Array, taken: list[Array]) -> bool:
    return any(np.abs(place - other).max() < 2 * REACH for other in taken)


def _cost(place: Array, start: Array, obstacles: Array) -> float:
    hidden = (np.abs(obstacles - place).max(axis=1) < REACH).sum()
    return float(hidden + FAR * np.linalg.norm(place - start))


COLUMNS = 2
"""Of panels: with more, their words would be too small on a phone."""
ROUNDS = 4
"""In which points are drawn, so that no class lies on top of another everywhere."""


def scatter(blocks: Sequence[Block], words: Words) -> Drawing:
    """The data sets' plots below one another, two in a row.

    Args:
        blocks: from top to bottom.
        words: what stands with them.
    """
    heights = [_height(block) + legend_height(_legend_labels(block)) for block in blocks]

    def paint(figure: Figure) -> None:
        parts = figure.subfigures(len(blocks), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, block in zip(parts, blocks, strict=True):
            _paint_block(part, block)

    return Drawing(paint, (WIDTH, sum(heights)), *words)


def _height(block: Block) -> float:
    """Inches that a block takes without its legend."""
    rows = -(-len(block.plots) // COLUMNS)
    return rows * (WIDTH / COLUMNS + 0.32) + 0.3


def _legend_labels(block: Block) -> list[str]:
    """The classes' numbers and names; none where the numbers say what they are."""
    if block.names == tuple(map(str, range(len(block.names)))):
        return []
    return [f"{number} {name}" for number, name in enumerate(block.names)]


def _paint_block(part: SubFigure, block: Block) -> None:
    rows = -(-len(block.plots) // COLUMNS)
    if labels := _legend_labels(block):
        part, below = above_legend(part, _height(block), labels)
        handles = [
            Line2D([], [], marker="o", linestyle="", color=CLASS_COLOURS[number], mec=INK)
            for number in range(len(labels))
        ]
        legend(below, handles, labels)
    grid = part.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, plot in zip(grid, block.plots, strict=False):
        _paint_plot(axes, plot, block.classes)
    for axes in grid[len(block.plots) :]:
        axes.remove()
    part.suptitle(block.title, color=INK, fontweight="bold", fontsize=10)


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
    axes.patch.set(facecolor="white", alpha=1.0)
    window = window_of(layout.with_anchors(classes) if plot.beside is None else plot.beside)
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
            axes.plot(x, y, "X", color=CLASS_COLOURS[number], markersize=7, markeredgecolor=RING)
    for number, place in _places(layout, classes, window, regions).items():
        _name(axes, number, place)


def _frame(axes: Axes, title: str) -> None:
    """An empty square below its title: the axes' units mean nothing."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_box_aspect(1)
    for spine in axes.spines.values():
        spine.set_visible(True)
    ink(axes)
    axes.set_title(title.replace(": ", "\n"), fontsize=9)


def _points(axes: Axes, layout: Layout, classes: Sequence[int]) -> None:
    """Dots in their class's colour, with a ring where the image is given another class."""
    diameter = float(np.clip(70 / np.sqrt(len(layout.points)), 2.2, 4.5))
    ring = 0.3 + 0.3 * diameter
    for start in range(ROUNDS):
        part = slice(start, None, ROUNDS)
        points, labels = layout.points[part], layout.labels[part]
        dots(axes, points[layout.predictions[part] != labels], RING, diameter + ring)
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


def dots(axes: Axes, points: np.ndarray[Any, Any], colour: str, diameter: float) -> None:
    """Draw points as one path: a few bytes per point, where a marker takes a hundred.

    Args:
        axes: with its limits set.
        points: (N, 2).
        colour: of all of them.
        diameter: in points of 1/72 inch.
    """
    if not len(points):
        return
    # A line of no length has two round ends: a dot. Agg draws it only if it has some length.
    low, high = axes.get_xlim()
    ends = np.array(points, dtype=float)
    ends[:, 0] += (high - low) * 1e-6
    vertices = np.stack([points, ends], axis=1).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(points))
    path = PathPatch(
        Path(vertices, codes),
        fill=False,
        edgecolor=colour,
        linewidth=diameter,
        capstyle="round",
        snap=False,
    )
    axes.add_artist(path)


def _name(axes: Axes, number: int, place: Array) -> None:
    colour = CLASS_COLOURS[number]
    axes.text(
        float(place[0]),
        float(place[1]),
        str(number),
        fontsize=SMALL,
        fontweight="bold",
        ha="center",
        va="center",
        color=readable_on(colour),
        bbox={
            "boxstyle": "round,pad=0.2",
            "facecolor": colour,
            "edgecolor": RING,
            "linewidth": 0.6,
        },
        clip_on=True,
    )
