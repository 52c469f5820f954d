"""Which class a linear layer gives to each point of the plane."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from robustbench_pcl.store.embeddings import Array


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
