"""The plane of a scatter plot: its window, each class's region, and where the numbers stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from robustbench_pcl.store.embeddings import Array

REACH = 0.042
"""How far a number and its frame reach, as a share of the window."""
FAR = 12.0
"""Hiding so many points is as bad as standing a window's width away."""
RADII = (0.0, 0.05, 0.065, 0.08, 0.1, 0.13, 0.17, 0.22, 0.28, 0.35)
ANGLES = 24

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
