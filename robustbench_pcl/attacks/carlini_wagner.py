"""Carlini and Wagner's L2 attack (Carlini and Wagner 2017; Section 5, Eq. 20 and 21)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from robustbench_pcl.attacks.base import Chunk, Goal
from robustbench_pcl.attacks.checks import spread
from robustbench_pcl.attacks.losses import logit_margin
from robustbench_pcl.attacks.passes import Pass, decided
from robustbench_pcl.attacks.runner import IterativeAttack, State
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import Count, Positive, later
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustbench_pcl.attacks.target import Loss

STRETCH = 1.01
"""Eq. 20's ``(tanh(zeta) + 1) / 2`` reaches 0 and 1 only at infinity, where its gradient is zero:
a pixel of exactly 0 or 1, as most of MNIST's are, would never move. Here the tanh is stretched by
this factor and zeta kept where the pixel is inside [0, 1], so those pixels start at a finite zeta
and move like the others."""

LIMIT = math.atanh(1 / STRETCH)
"""Of zeta, either way: where the pixel is 0 or 1."""

PATIENCE_SHARE, PATIENCE_STEPS = 20, 50
"""An image stops when neither its objective nor its distance has improved during a twentieth of
the steps (Carlini and Wagner's own code looks at the objective of the whole batch during a tenth),
but not during fewer than 50: a short schedule that stopped in Adam's first overshoot would find
perturbations that are half as large again as needed."""


@dataclass(frozen=True, eq=False)
class SearchState(State):
    """What Carlini and Wagner's attack knows, one row per image.

    Attributes:
        zeta: float (N, C, H, W), the variable of Eq. 20.
        first: like ``zeta``, Adam's running mean of the gradient.
        second: like ``zeta``, Adam's running mean of its square.
        nearest: (N,), smallest distance at which the model was fooled with this c; infinite before.
        lowest: (N,), smallest objective with this c.
        milestones: (N, 2), ``lowest`` and ``nearest`` when progress was last looked at.
        best: (N, C, H, W), the nearest adversarial image with any c; the clean one before.
        shortest: (N,), its distance.
        c: (N,), weight of the classification term.
        low: (N,), largest c that did not fool the model.
        high: (N,), smallest c that did.
        round: int64 (N,), how many values of c were tried.
    """

    zeta: Tensor
    first: Tensor
    second: Tensor
    nearest: Tensor
    lowest: Tensor
    milestones: Tensor
    best: Tensor
    shortest: Tensor
    c: Tensor
    low: Tensor
    high: Tensor
    round: Tensor


class CW(IterativeAttack[SearchState]):
    r"""Carlini and Wagner's L2 attack: a small perturbation that changes the class, by Adam.

    Eq. 20 and 21, with the squared distance of its authors:

    .. math::

        \min_{\zeta} \; \| x' - x \|_2^2 + c f(x'), \qquad
        x' = \tfrac{1}{2} (\tanh \zeta + 1), \qquad
        f(x') = \max \left( z_y(x') - \max_{k \neq y} z_k(x'), -\kappa \right)

    Each image is attacked on its own. Returned is the adversarial image with the smallest L2
    perturbation met on the way, or the clean image where none was met. With ``search_steps`` the
    weight c is searched for each image, first by factors of ten, then by bisection (Carlini and
    Wagner use 9).

    Attributes:
        reference_share: Adam's first overshoot is over by then even for images that start close to
            another class; in bfloat16 to the end, perturbations would be 0.6 % longer. Only from
            then on an image may stop for want of progress.
    """

    title: ClassVar[str] = "C&W"
    reference_share: ClassVar[float] = 0.4

    name: Literal["cw"] = "cw"
    norm: Literal["l2"] = later("l2", "of the perturbation that it minimises")
    c: Positive = Field(1.0, description="weight of the classification term f")
    steps: Count = Field(1000, description="Adam steps for each c")
    learning_rate: Positive = Field(0.01, description="of Adam")
    confidence: float = Field(0.0, description="kappa: logit margin to reach")
    search_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="further values of c, for each image"
    )

    def initialise(self, target: TargetModel, chunk: Chunk) -> SearchState:  # noqa: ARG002
        """At the image, with no success yet."""
        images = chunk.images
        nowhere = torch.full_like(chunk.rows, torch.inf, dtype=images.dtype)
        return SearchState(
            chunk=chunk,
            best=images,
            shortest=nowhere,
            c=torch.full_like(nowhere, self.c),
            low=torch.zeros_like(nowhere),
            high=nowhere,
            round=torch.zeros_like(chunk.rows),
            **_fresh(images),
        )

    def step(self, target: TargetModel, state: SearchState) -> tuple[SearchState, Pass]:
        """Keep the images that are better, then one step of Adam; who is stuck tries another c.

        An image counts only if the reference model is fooled by it; that one is asked about every
        image that is closer and that the fast model, within its error, may be wrong about.
        """
        adversarial, goal = state.adversarial, state.chunk.goal
        found = target.differentiate(self._loss(goal), adversarial, goal.labels, exact=state.exact)
        change = adversarial - state.chunk.images
        squared = change.square().sum(dim=(1, 2, 3))
        closer = self._closer(target, state, found, squared.sqrt())
        better = closer & (squared.sqrt() < state.shortest)
        gradient = 2 * change - state.c[:, None, None, None] * found.gradient  # of Eq. 20
        state = replace(
            self._descended(state, gradient),
            best=_where(better, adversarial, state.best),
            shortest=torch.where(better, squared.sqrt(), state.shortest),
            nearest=torch.where(closer, squared.sqrt(), state.nearest),
            lowest=torch.minimum(state.lowest, squared - state.c * found.values),
            step=state.step + 1,
        )
        return self._searched(state), found

    def _loss(self, goal: Goal) -> Loss:
        """Eq. 21 with a minus sign, because it is to shrink."""

        def loss(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(images)
            return -self._shortfall(logits, labels, targeted=goal.targeted).clamp_min(0), logits

        return loss

    def _shortfall(self, logits: Tensor, labels: Tensor, *, targeted: bool) -> Tensor:
        """Eq. 21 without its lower bound: how far the margin is from ``confidence``, (N,)."""
        margin = logit_margin(logits, labels)
        return self.confidence + (margin if targeted else -margin)

    def _closer(
        self, target: TargetModel, state: SearchState, found: Pass, distance: Tensor
    ) -> Tensor:
        """Boolean (N,): whose image fools the reference model, nearer than any with this c."""
        goal = state.chunk.goal
        shortfall = self._shortfall(found.logits, goal.labels, targeted=goal.targeted)
        slack = torch.zeros_like(shortfall)
        if not found.exact:
            slack = target.logit_error * spread(found.logits).clamp_min(target.logit_width)
        closer = (shortfall <= slack) & (distance < state.nearest)
        logits = found.logits[closer]
        if not found.exact and len(logits):
            logits = target.logits(state.adversarial[closer])
        if len(logits):
            asked = goal[closer]
            shortfall = self._shortfall(logits, asked.labels, targeted=asked.targeted)
            closer[closer.clone()] = asked.reached(decided(logits)) & (shortfall <= 0)
        return closer

    def _descended(self, state: SearchState, gradient: Tensor) -> SearchState:
        """One step of Adam (Kingma and Ba 2015, Algorithm 1), then back into the box."""
        zeta = state.zeta
        step = (state.step + 1)[:, None, None, None].to(zeta)
        gradient = gradient * STRETCH / 2 * (1 - torch.tanh(zeta).square())
        first = state.first.lerp(gradient, 0.1)
        second = state.second.lerp(gradient.square(), 0.001)
        mean = first / (1 - 0.9**step)
        spread = (second / (1 - 0.999**step)).sqrt()
        zeta = (zeta - self.learning_rate * mean / (spread + 1e-8)).clamp(-LIMIT, LIMIT)
        return replace(state, zeta=zeta, first=first, second=second, adversarial=_pixels(zeta))

    def _searched(self, state: SearchState) -> SearchState:
        """Let those who took all steps, or do not improve any more, try another c."""
        patience = max(self.steps // PATIENCE_SHARE, PATIENCE_STEPS)
        asked = state.step % patience == 0
        worth = torch.stack([state.lowest, state.nearest], dim=1)
        improved = (worth < state.milestones * 0.9999).any(dim=1)
        stuck = asked & ~improved & (state.step >= self.reference_share * self.steps)
        state = replace(state, milestones=_where(asked, worth, state.milestones))
        over = stuck | (state.step >= self.steps)
        if not bool(over.any()):
            return state
        fooled = state.nearest.isfinite()
        high = torch.where(fooled, state.c, state.high)
        low = torch.where(fooled, state.low, state.c)
        again: dict[str, Any] = {
            "high": high,
            "low": low,
            "c": torch.where(high.isfinite(), (low + high) / 2, state.c * 10),
            "round": state.round + 1,
            **_fresh(state.chunk.images),
        }
        chosen: dict[str, Any] = {
            name: _where(over, value, getattr(state, name)) for name, value in again.items()
        }
        state = replace(state, **chosen)
        ended = state.round > self.search_steps
        return replace(
            state,
            step=state.step.masked_fill(ended, self.steps),
            adversarial=_where(ended, state.best, state.adversarial),
        )


def _fresh(images: Tensor) -> dict[str, Any]:
    """What is known of images before the first step with a c."""
    zeta = torch.atanh((2 * images - 1) / STRETCH)
    nowhere = images.new_full((len(images),), torch.inf)
    return {
        "step": torch.zeros_like(nowhere, dtype=torch.int64),
        "zeta": zeta,
        "adversarial": _pixels(zeta),
        "first": torch.zeros_like(images),
        "second": torch.zeros_like(images),
        "nearest": nowhere,
        "lowest": nowhere,
        "milestones": nowhere[:, None].expand(-1, 2),
    }


def _pixels(zeta: Tensor) -> Tensor:
    """Eq. 20's images, in [0, 1]."""
    return ((STRETCH * torch.tanh(zeta) + 1) / 2).clamp(0, 1)


def _where(rows: Tensor, values: Tensor, others: Tensor) -> Tensor:
    """``values`` in the rows of a boolean mask (N,), ``others`` elsewhere; any shapes (N, ...)."""
    return torch.where(rows.view(-1, *[1] * (values.ndim - 1)), values, others)
