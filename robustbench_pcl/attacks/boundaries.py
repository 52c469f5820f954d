"""Linearised decision boundaries: the smallest step onto one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_pcl.attacks.base import Norm


def step_onto(points: Tensor, normals: Tensor, gaps: Tensor, norm: Norm) -> Tensor:
    """The smallest steps (N, C, H, W) onto hyperplanes that stay in [0, 1], exactly.

    A step makes the progress sum_i |w_i| min(t s_i, room_i) along the normal w, where room_i is
    how far pixel i may go and s_i how fast the smallest step moves it: all alike in L-infinity, by
    |w_i| in L2. That is concave and piecewise linear in t, so Newton's method from t = 0 never
    overshoots, takes one piece after the other, and ends on the right one after a few rounds.
    Where the box holds no point of the hyperplane, the step ends in the corner nearest to it.

    Args:
        points: float (N, C, H, W) in [0, 1], where the steps begin.
        normals: like ``points``, of the hyperplanes.
        gaps: (N,), the inner product that the step is to have with the normal.
        norm: in which the step is smallest.
    """
    kind = torch.promote_types(points.dtype, torch.float32)
    flat, gaps = points.flatten(1).to(kind), gaps.to(kind).nan_to_num(0)[:, None]
    towards = normals.flatten(1).to(kind) * gaps.sign()
    room = torch.where(towards > 0, 1 - flat, flat)
    # Scaled first: squares of a flattened loss's gradient are too small for any float.
    tiny, huge = torch.finfo(kind).tiny, torch.finfo(kind).max
    largest = towards.abs().amax(dim=1, keepdim=True).clamp_min(tiny)
    slope = towards.abs() / largest
    speed = slope if norm == "l2" else torch.ones_like(slope)
    wanted = gaps.abs() / largest
    time = torch.zeros_like(wanted)
    while True:
        full = time * speed >= room
        left = wanted - (slope * room * full).sum(dim=1, keepdim=True)
        rate = (slope * speed * ~full).sum(dim=1, keepdim=True)
        later = torch.maximum(time, (left / rate).nan_to_num(0, huge, 0))
        if torch.equal(later, time):
            break
        time = later
    step = torch.minimum(time * speed, room) * towards.sign()
    return step.view_as(points).to(points)


def reaches(steps: Tensor, normals: Tensor, gaps: Tensor) -> Tensor:
    """Boolean (N,): which steps of :func:`step_onto` come to the hyperplane, up to rounding.

    Others would have to leave [0, 1], or have no normal to follow.
    """
    progress = (steps * normals).sum(dim=(1, 2, 3))
    return (progress - gaps).abs() <= 0.01 * gaps.abs()
