"""One scatter plot of features: a colour and a number for each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from robustbench_pcl.report.figures.drawing import CLASS_COLOURS, INK, dots, ink
from robustbench_pcl.report.figures.places import number_places
from robustbench_pcl.report.figures.regions import Window, class_regions, window_of
from robustbench_pcl.store.embeddings import Array, Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROUNDS = 4
"""In which points are drawn, so that no class lies on top of another everywhere."""


class Plot(NamedTuple):
    """One scatter plot.

    Attributes:
        title: whose features.
        layout: the points; None if they are not made yet.
        window: the part of the plane that is shown; all points if None.
    """

    title: str
    layout: Layout | None
    window: Window | None = None


def paint_plot(axes: Axes, plot: Plot, classes: Sequence[int]) -> None:
    """Paint a plot: regions, points, prototypes, and the classes' numbers.

    Args:
        axes: empty.
        plot: what is seen.
        classes: those that are shown, in the order of their colours.
    """
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_box_aspect(1)
    for spine in axes.spines.values():
        spine.set(visible=True, alpha=0.4)
    ink(axes)
    axes.set_title(plot.title, fontsize=10)
    if plot.layout is None:
        axes.text(0.5, 0.5, "not stored yet", ha="center", color=INK, transform=axes.transAxes)
        return
    layout = plot.layout
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
