"""Square attack (Andriushchenko et al. 2020): random search by squares, without gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from robustbench_pcl.attacks.balls import Ball, LinfBall, ball, counted
from robustbench_pcl.attacks.base import Chunk
from robustbench_pcl.attacks.passes import Pass
from robustbench_pcl.attacks.runner import IterativeAttack, State
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import Count, Radius
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Of 10,000 queries, after which the share of changed pixels is halved (Section 4.1); with fewer
queries in all, correspondingly earlier (as AutoAttack has it)."""


@dataclass(frozen=True, eq=False)
class SquareState(State):
    """What the random search knows, one row per image.

    Attributes:
        ball: in which it stays.
        best: float (N, C, H, W), the point with the largest margin; ``adversarial`` is a change
            of it that is to be tried.
        margin: float (N,), that margin.
    """

    ball: Ball
    best: Tensor
    margin: Tensor


class Square(IterativeAttack[SquareState]):
    r"""Square attack: change a random square, keep the change if the margin grows.

    .. math::

        x_{m+1} = x_m + \delta \; \text{if} \; \mathcal{M}(x_m + \delta) > \mathcal{M}(x_m),
        \qquad \mathcal{M} = \max_{k \neq y} z_k - z_y

    with a random square :math:`\delta`, projected into the ball.

    In L-infinity it starts at vertical stripes, and sets all pixels of a square to one end of the
    ball, each channel by itself (Algorithms 1 and 2). In L2 it starts at a grid of bumps, and moves
    the perturbation of one window, with what of the budget is unused, to another (Algorithm 3).
    Squares shrink by a schedule. Positions and signs are drawn for each image and step from the
    image's seed and the number of the step. Squares may reach the last row and column, which the
    authors' code leaves out.
    """

    early_stop: ClassVar[bool] = True
    needs_gradient: ClassVar[bool] = False

    name: Literal["square"] = "square"
    eps: Radius = Field(8 / 255, description="largest perturbation, in pixels of [0, 1]")
    steps: Count = Field(5000, description="queries")
    p_init: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8, description="share of the pixels that the first squares change"
    )

    def initialise(self, target: TargetModel, chunk: Chunk) -> SquareState:  # noqa: ARG002
        """At stripes, or at bumps."""
        inside = ball(chunk, self.norm, self.eps)
        none = torch.zeros_like(chunk.rows)
        return SquareState(
            chunk=chunk,
            step=none,
            adversarial=started(inside, chunk.seeds),
            ball=inside,
            best=chunk.images,
            margin=torch.full_like(none, -torch.inf, dtype=chunk.images.dtype),
        )

    def step(self, target: TargetModel, state: SquareState) -> tuple[SquareState, Pass]:
        """Keep the change if it is better, and try the next."""
        found = target.query(state.adversarial, exact=state.exact)
        margin = state.chunk.goal.margin(found.logits).to(state.margin)
        better = margin > state.margin
        best = torch.where(better[:, None, None, None], state.adversarial, state.best)
        taken = state.step + 1
        over = (taken >= self.steps)[:, None, None, None]
        after = replace(
            state,
            step=taken,
            adversarial=torch.where(over, best, self._changed(state, best, taken)),
            best=best,
            margin=torch.where(better, margin, state.margin),
        )
        return after, found

    def _changed(self, state: SquareState, best: Tensor, number: Tensor) -> Tensor:
        """The best points (N, C, H, W) with change number ``number``, int64 (N,) from 1."""
        query = (number - 1) * 10_000 // self.steps
        limits = torch.tensor(HALVED_AFTER, device=best.device)
        halvings = (query[:, None] > limits).sum(dim=1)
        drawn = counted(state.chunk.seeds, number, SIGNS + best.shape[1])
        inside, (height, width) = state.ball, best.shape[2:]
        shares = [self.p_init / 2**count for count in range(len(HALVED_AFTER) + 1)]
        sides = [round(math.sqrt(share * height * width)) for share in shares]
        most = min(height, width)
        if isinstance(inside, LinfBall):
            sides = [min(max(side, 1), most) for side in sides]
            return repainted(inside, best, sides, halvings, drawn)
        # Odd, so that a bump has a middle.
        sides = [min(max(side, 3) // 2 * 2 + 1, (most - 1) // 2 * 2 + 1) for side in sides]
        return moved(inside, best, sides, halvings, drawn)


SIGNS = 5
"""Columns of what is drawn for a step before the channels' signs: two positions, a direction."""


class Window:
    """A square in each image.

    Args:
        side: int64 (N,), in pixels.
        place: float (N, 2), uniform in [0, 1), where it begins, downwards and to the right.
        images: float (N, C, H, W), whose size is meant.

    Attributes:
        down: int64 (N, H), each row's number in the square: outside, below 0 or from the side on.
        right: int64 (N, W), each column's.
        mask: boolean (N, 1, H, W), the pixels inside.
    """

    def __init__(self, side: Tensor, place: Tensor, images: Tensor) -> None:
        self.down, self.right = (
            torch.arange(size, device=side.device)
            - (place[:, axis] * (size - side + 1)).long()[:, None]
            for axis, size in enumerate(images.shape[2:])
        )
        down, right = (
            (numbers >= 0) & (numbers < side[:, None]) for numbers in (self.down, self.right)
        )
        self.mask = (down[:, :, None] & right[:, None, :])[:, None]


def started(inside: Ball, seeds: Tensor) -> Tensor:
    """Where the search begins."""
    return stripes(inside, seeds) if isinstance(inside, LinfBall) else bumps(inside, seeds)


def stripes(inside: LinfBall, seeds: Tensor) -> Tensor:
    """Each column of each channel at one end of the ball."""
    _, channels, _, width = inside.images.shape
    drawn = counted(seeds, torch.zeros_like(seeds), channels * width)
    return torch.where(drawn.view(-1, channels, 1, width) < 0.5, inside.low, inside.high)


def repainted(
    inside: LinfBall, best: Tensor, sides: list[int], halvings: Tensor, drawn: Tensor
) -> Tensor:
    """The pixels of a square at one end of the ball, for each channel (Algorithm 2).

    That is what adding +-2 eps and projecting comes to.

    Args:
        inside: in which ``best`` is.
        best: float (N, C, H, W), points that are changed.
        sides: of the squares, for each number of halvings.
        halvings: int64 (N,), how many there were.
        drawn: float (N, SIGNS + C), uniform in [0, 1).
    """
    side = torch.tensor(sides, device=best.device)[halvings]
    ends = torch.where(_signs(drawn, best) < 0, inside.low, inside.high)
    return torch.where(Window(side, drawn[:, :2], best).mask, ends, best)


def bumps(inside: Ball, seeds: Tensor) -> Tensor:
    """A grid of five by five bumps, each with a random direction, and sign in each channel."""
    images = inside.images
    channels, *size = images.shape[1:]
    side = max(min(size) // 5, 1)
    margin = max((min(size) - 5 * side) // 2, 0)
    places = [torch.arange(each, device=images.device) - margin for each in size]
    down, right = (each.clamp_min(0) // side for each in places)
    inner = [
        (each >= 0) & (each < count // side * side)
        for each, count in zip(places, size, strict=True)
    ]
    count = int(down[-1] + 1), int(right[-1] + 1)
    drawn = counted(seeds, torch.zeros_like(seeds), (1 + channels) * count[0] * count[1])
    drawn = drawn.view(-1, 1 + channels, *count)[:, :, down][:, :, :, right]
    bump = bump_of(side).to(images)
    upright = bump[places[0] % side][:, places[1] % side]
    turned = bump.T[places[0] % side][:, places[1] % side]
    shape = torch.where(drawn[:, :1] < 0.5, upright, turned)
    shape = shape * torch.where(drawn[:, 1:] < 0.5, -1, 1) * (inner[0][:, None] & inner[1])
    return _filled(inside, shape)


def moved(inside: Ball, best: Tensor, sides: list[int], halvings: Tensor, drawn: Tensor) -> Tensor:
    """The perturbation of one window, and what is unused, in the shape of a bump in another one.

    Algorithm 3: a window gets its own perturbation, normalised, plus a bump; in each channel its
    length is that of both windows, and its share of what the budget has left. The other window
    loses its own. As in :func:`repainted`.
    """
    change = best - inside.images
    side = torch.tensor(sides, device=best.device)[halvings]
    new, old = Window(side, drawn[:, :2], best), Window(side, drawn[:, 2:4], best)
    table = _bumps_of(tuple(sides)).to(best)
    most = table.shape[1] - 1
    down, right = (each.clamp(0, most) for each in (new.down[:, :, None], new.right[:, None, :]))
    kind = halvings[:, None, None]
    direction = drawn[:, 4, None, None] < 0.5
    bump = torch.where(direction, table[kind, down, right], table[kind, right, down])[:, None]
    tiny = torch.finfo(best.dtype).tiny
    squares = change.square()
    own = (squares * new.mask).sum(dim=(2, 3), keepdim=True).sqrt().clamp_min(tiny)
    shape = (bump * _signs(drawn, best) + change / own) * new.mask
    length = shape.square().sum(dim=(2, 3), keepdim=True).sqrt().clamp_min(tiny)
    unused = (inside.eps.square() - squares.sum(dim=(1, 2, 3), keepdim=True)).clamp_min(0)
    given = (squares * (new.mask | old.mask)).sum(dim=(2, 3), keepdim=True)
    mass = (given + unused / best.shape[1]).sqrt()
    return _filled(inside, torch.where(new.mask, shape / length * mass, change * ~old.mask))


def _filled(inside: Ball, change: Tensor) -> Tensor:
    """The points that lie in the direction ``change`` (N, C, H, W), at the distance of eps."""
    change = change.to(inside.images)
    return inside.project(inside.images + inside.eps * inside.steepest(change))


def _signs(drawn: Tensor, images: Tensor) -> Tensor:
    """Of each channel, (N, C, 1, 1): 1 or -1."""
    return torch.where(drawn[:, SIGNS:, None, None] < 0.5, -1, 1).to(images)


@cache
def _bumps_of(sides: tuple[int, ...]) -> Tensor:
    """Bumps of these sides, each filled with zeros to the largest, float64 (S, L, L)."""
    table = torch.zeros(len(sides), max(sides), max(sides), dtype=torch.float64)
    for bump, side in zip(table, sides, strict=True):
        bump[:side, :side] = bump_of(side)
    return table


def bump_of(side: int) -> Tensor:
    """Two pyramids beside each other with opposite signs, of length 1 (Section 3.4, Eq. 2)."""
    upper, lower = _pyramid(side // 2, side), _pyramid(side - side // 2, side)
    bump: Tensor = torch.cat([upper, -lower])
    return bump.div_(bump.norm())


def _pyramid(height: int, width: int) -> Tensor:
    """Sums of 1/k^2 that grow towards the middle, of length 1, float64 (``height``, ``width``)."""
    reach = max(height, width) // 2 + 1
    terms = torch.arange(1, reach + 1, dtype=torch.float64) ** -2
    heights = terms.flip(0).cumsum(0).flip(0)
    down, right = (torch.arange(size).sub(size // 2).abs() for size in (height, width))
    pyramid: Tensor = heights[torch.maximum(down[:, None], right)]
    return pyramid.div_(pyramid.norm())
