"""Box-constrained L-BFGS (Szegedy et al. 2014): the first attack, with a search for its weight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from robustbench_pcl.attacks.base import Chunk
from robustbench_pcl.attacks.losses import cross_entropy
from robustbench_pcl.attacks.passes import Pass, decided
from robustbench_pcl.attacks.rows import column
from robustbench_pcl.attacks.runner import IterativeAttack, State
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import Count, Positive
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

MEMORY = 10
"""Pairs of steps and gradient differences that the curvature is estimated from."""
ARMIJO = 1e-4
"""A step is taken if the objective falls by this share of what the slope promises."""
SHORTEST = 2.0**-12
"""Steps shorter than this share of the direction are not tried: the round is over."""


@dataclass(frozen=True, eq=False)
class NewtonState(State):
    """What the search knows, one row per image; flat pixels are (N, P).

    Attributes:
        point: (N, P), the last point that was taken; ``adversarial`` is tried as the next one.
        value: (N,), the objective there; infinite before the first.
        slope: (N, P), its gradient there.
        direction: (N, P), along which points are tried.
        length: (N,), of the step that is tried, as a share of the direction.
        steps_taken: (N, MEMORY, P), the last steps, the newest last; zero where there is none.
        bends: (N, MEMORY, P), the differences of the gradients that belong to them.
        best: float (N, C, H, W), the nearest adversarial image; the clean one before.
        shortest: (N,), its distance; infinite before.
        c: (N,), weight of the distance.
        low: (N,), the largest c whose minimum fooled; 0 before.
        high: (N,), the smallest c whose minimum did not; infinite before.
        succeeded: boolean (N,), whether ``point`` fools.
        round: int64 (N,), how many values of c were tried.
    """

    point: Tensor
    value: Tensor
    slope: Tensor
    direction: Tensor
    length: Tensor
    steps_taken: Tensor
    bends: Tensor
    best: Tensor
    shortest: Tensor
    c: Tensor
    low: Tensor
    high: Tensor
    succeeded: Tensor
    round: Tensor


class LBFGS(IterativeAttack[NewtonState]):
    r"""L-BFGS: minimise the perturbation and the cross-entropy with the class to reach, in [0, 1].

    .. math::

        \min_r \; c \| r \|_2^2 + \mathcal{L}_{CE}(x + r, t) \quad
        \text{with} \; x + r \in [0, 1]

    Section 4.1, with the squared norm of Carlini and Wagner's account of it. Where no class is to
    be reached, the cross-entropy is with all wrong ones together, -log(1 - p(label)). The largest
    weight c that fools is searched for each image, first by factors of ten, then by bisection; each
    c starts at the clean image. Pixels at a bound that would leave it stay out of a step (projected
    Newton, Bertsekas 1982). The result is the nearest adversarial image met on the way, or the
    clean one. All passes are the reference model's: curvature is a difference of gradients.
    """

    name: Literal["lbfgs"] = "lbfgs"
    norm: Literal["l2"] = Field("l2", description="of the perturbation that it minimises")
    c: Positive = Field(1.0, description="first weight of the squared distance")
    steps: Count = Field(50, description="points that are tried for each c")
    search_steps: Annotated[int, Field(ge=0)] = Field(
        9, description="further values of c, for each image"
    )

    def initialise(self, target: TargetModel, chunk: Chunk) -> NewtonState:  # noqa: ARG002
        """At the image, with no success yet."""
        images = chunk.images
        nowhere = torch.full_like(chunk.rows, torch.inf, dtype=images.dtype)
        return NewtonState(
            chunk=chunk,
            best=images,
            shortest=nowhere,
            c=torch.full_like(nowhere, self.c),
            low=torch.zeros_like(nowhere),
            high=nowhere,
            round=torch.zeros_like(chunk.rows),
            **_fresh(images),
        )

    def step(self, target: TargetModel, state: NewtonState) -> tuple[NewtonState, Pass]:
        """Take the point that is tried, or a shorter step; who is stuck tries another c."""
        here = state.adversarial
        goal = state.chunk.goal
        loss = _with_the_class if goal.targeted else _with_the_others
        found = target.differentiate(loss, here, goal.labels)
        change = here - state.chunk.images
        squared = change.square().sum(dim=(1, 2, 3))
        fooled = goal.reached(decided(found.logits))
        better = fooled & (squared.sqrt() < state.shortest)
        state = replace(
            state,
            best=torch.where(column(better), here, state.best),
            shortest=torch.where(better, squared.sqrt(), state.shortest),
            step=state.step + 1,
        )
        value = state.c * squared + found.values
        slope = (2 * column(state.c) * change + found.gradient).flatten(1)
        return self._searched(self._moved(state, value, slope, fooled)), found

    def _moved(
        self, state: NewtonState, value: Tensor, slope: Tensor, fooled: Tensor
    ) -> NewtonState:
        """With the next point to try: further on from this one, or nearer to the last one."""
        here = state.adversarial.flatten(1)
        step = here - state.point
        taken = value <= state.value + ARMIJO * (state.slope * step).sum(dim=1)
        remembered = _remembered(state, step, slope - state.slope, taken)
        point, slope = (
            torch.where(taken[:, None], new, old)
            for new, old in ((here, state.point), (slope, state.slope))
        )
        fresh = _descent(point, slope, *remembered)
        direction = torch.where(taken[:, None], fresh, state.direction)
        length = torch.where(taken, 1, state.length / 2)
        tried = (point + length[:, None] * direction).clamp(0, 1)
        return replace(
            state,
            point=point,
            value=torch.where(taken, value, state.value),
            slope=slope,
            succeeded=torch.where(taken, fooled, state.succeeded),
            direction=direction,
            length=length,
            steps_taken=remembered[0],
            bends=remembered[1],
            adversarial=tried.view_as(state.adversarial),
        )

    def _searched(self, state: NewtonState) -> NewtonState:
        """Let those who took all steps, or are at a minimum, try another c."""
        still = (state.adversarial.flatten(1) == state.point).all(dim=1)
        over = (state.step >= self.steps) | (state.length < SHORTEST) | still
        low = torch.where(state.succeeded, state.c, state.low)
        high = torch.where(state.succeeded, state.high, state.c)
        between = torch.where(low > 0, (low + high) / 2, state.c / 10)
        again: dict[str, Any] = {
            "low": low,
            "high": high,
            "c": torch.where(high.isfinite(), between, state.c * 10),
            "round": state.round + 1,
            **_fresh(state.chunk.images),
        }
        chosen: dict[str, Any] = {
            name: _where(over, new, getattr(state, name)) for name, new in again.items()
        }
        state = replace(state, **chosen)
        ended = (state.round > self.search_steps) | (state.shortest == 0)
        return replace(
            state,
            step=state.step.masked_fill(ended, self.steps),
            adversarial=torch.where(column(ended), state.best, state.adversarial),
        )


def _with_the_class(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits = model(images)
    return cross_entropy(logits, labels), logits


def _with_the_others(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits = model(images)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return logits.logsumexp(dim=1) - others.logsumexp(dim=1), logits


def _fresh(images: Tensor) -> dict[str, Any]:
    """What is known of images before the first step with a c."""
    flat = images.flatten(1)
    nowhere = torch.full_like(flat[:, 0], torch.inf)
    none = torch.zeros_like(flat)
    memory = none[:, None].expand(-1, MEMORY, -1)
    return {
        "step": torch.zeros_like(nowhere, dtype=torch.int64),
        "adversarial": images,
        "point": flat,
        "value": nowhere,
        "slope": none,
        "direction": none,
        "length": torch.ones_like(nowhere),
        "steps_taken": memory,
        "bends": memory,
        "succeeded": torch.zeros_like(nowhere, dtype=torch.bool),
    }


def _remembered(
    state: NewtonState, step: Tensor, bend: Tensor, taken: Tensor
) -> tuple[Tensor, Tensor]:
    """The memory with the step that was taken, if the objective bends upwards along it."""
    curved = (step * bend).sum(dim=1) > 1e-10 * bend.square().sum(dim=1)
    kept = (taken & curved)[:, None, None]
    steps, bends = (
        torch.where(kept, torch.cat([old[:, 1:], new[:, None]], dim=1), old)
        for old, new in ((state.steps_taken, step), (state.bends, bend))
    )
    return steps, bends


def _descent(point: Tensor, slope: Tensor, steps: Tensor, bends: Tensor) -> Tensor:
    """Minus the inverse Hessian times the slope (Nocedal 1980), over the pixels that may move.

    Args:
        point: float (N, P) in [0, 1].
        slope: float (N, P), the gradient there.
        steps: float (N, MEMORY, P).
        bends: float (N, MEMORY, P).
    """
    free = ~((point <= 0) & (slope > 0) | (point >= 1) & (slope < 0))
    rest, steps, bends = slope * free, steps * free[:, None], bends * free[:, None]
    tiny = torch.finfo(point.dtype).tiny
    products = (steps * bends).sum(dim=2)
    used = products > tiny
    weights = torch.where(used, 1 / products.clamp_min(tiny), 0)
    shares = []
    for index in reversed(range(MEMORY)):
        share = weights[:, index] * (steps[:, index] * rest).sum(dim=1)
        shares.append(share)
        rest = rest - share[:, None] * bends[:, index]
    newest = bends[:, -1].square().sum(dim=1)
    first = 1 / rest.norm(dim=1).clamp_min(tiny)
    size = torch.where(used[:, -1], products[:, -1] / newest.clamp_min(tiny), first.clamp_max(1))
    rest = rest * size[:, None]
    for index, share in zip(range(MEMORY), reversed(shares), strict=True):
        back = weights[:, index] * (bends[:, index] * rest).sum(dim=1)
        rest = rest + (share - back)[:, None] * steps[:, index]
    downhill = (rest * slope).sum(dim=1) > 0
    return -torch.where(downhill[:, None], rest, slope * free) * free


def _where(rows: Tensor, values: Tensor, others: Tensor) -> Tensor:
    """``values`` in the rows of a boolean mask (N,), ``others`` elsewhere; any shapes (N, ...)."""
    return torch.where(rows.view(-1, *[1] * (values.ndim - 1)), values, others)
