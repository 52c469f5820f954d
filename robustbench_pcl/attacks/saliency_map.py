"""Jacobian-based saliency map attack (Papernot et al. 2016): a few pixels, changed by much."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from robustbench_pcl.attacks.base import Chunk
from robustbench_pcl.attacks.passes import Pass, decided
from robustbench_pcl.attacks.ranking import Ranking
from robustbench_pcl.attacks.rows import column
from robustbench_pcl.attacks.runner import IterativeAttack, State
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import Count
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST_PAIRS = 2**24
"""That are compared at once."""


def _changes_something(theta: float) -> float:
    if theta == 0:
        raise ValueError("a change by 0 is none")
    return theta


@dataclass(frozen=True, eq=False)
class SaliencyState(State):
    """What the attack knows, one row per image.

    Attributes:
        reached: int64 (N,), the class that is made likelier.
    """

    reached: Tensor


class JSMA(IterativeAttack[SaliencyState]):
    r"""Jacobian-based saliency map attack: change the pair of pixels with the largest saliency.

    The pair of pixels p, q that is changed, for the class t:

    .. math::

        \max_{(p, q)} \; \left( \frac{\partial z_t}{\partial x_p} +
        \frac{\partial z_t}{\partial x_q} \right) \cdot \left| \sum_{k \neq t}
        \left( \frac{\partial z_k}{\partial x_p} + \frac{\partial z_k}{\partial x_q} \right) \right|

    of pairs whose first factor is positive and whose sum is negative.

    Algorithm 3, on the logits: until the class is reached, the two pixels that together raise its
    logit and lower the sum of the others the most (Eq. 10 and its heuristic) are changed by
    ``theta``; one that has come to 0 or 1 is done with. A pixel is one of a channel. Where no
    class is to be reached, it is the likeliest wrong one, and any wrong one ends the search. All
    passes are the reference model's. The budget is of L0: the share ``gamma`` of all pixels, but at
    least one pair.
    """

    name: Literal["jsma"] = "jsma"
    norm: Literal["l0"] = Field("l0", description="of the perturbation: how many pixels change")  # type: ignore[assignment]
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(
        0.145, description="share of the pixels that may change"
    )
    theta: Annotated[float, Field(ge=-1, le=1), AfterValidator(_changes_something)] = Field(
        1.0, description="by how much a pixel changes at once"
    )
    steps: Count = Field(10_000, description="pairs of pixels, if gamma allows as many")

    def initialise(self, target: TargetModel, chunk: Chunk) -> SaliencyState:
        """At the image."""
        reached = Ranking("logits", "linf", 1).pairs(target, chunk, 1)[:, 1]
        return SaliencyState(chunk, torch.zeros_like(chunk.rows), chunk.images, reached)

    def step(self, target: TargetModel, state: SaliencyState) -> tuple[SaliencyState, Pass]:
        """Change the most salient pair, unless the class is reached or none is salient."""
        here = state.adversarial
        found = target.differentiate(_logit, here, state.reached)
        total = target.differentiate(_sum_of_logits, here, state.reached)
        towards = 1 if self.theta > 0 else -1
        gain = (towards * found.gradient).flatten(1)
        fall = gain - (towards * total.gradient).flatten(1)
        shut = (here >= 1 if self.theta > 0 else here <= 0).flatten(1)
        pair, salient = salient_pairs(gain, fall, shut)
        pairs = max(int(self.gamma * gain.shape[1] / 2), 1)
        done = state.chunk.goal.reached(decided(found.logits)) | ~salient | (state.step >= pairs)
        change = torch.zeros_like(gain).scatter(1, pair, self.theta).view_as(here)
        after = replace(
            state,
            step=(state.step + 1).masked_fill(done, self.steps),
            adversarial=torch.where(column(done), here, (here + change).clamp(0, 1)),
        )
        return after, found


def salient_pairs(gain: Tensor, fall: Tensor, shut: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs with the largest product of both sums, of those where both are positive.

    A pixel that two others surpass in gain and in fall is in no best pair, so that only a few of
    millions of pairs need be looked at.

    Args:
        gain: float (N, P), how much each pixel raises the logit of the class to reach.
        fall: float (N, P), how much it lowers the sum of the others.
        shut: boolean (N, P), which pixels may not change.

    Returns:
        their indices, int64 (N, 2), and boolean (N,): where there is such a pair.
    """
    gain, order = gain.masked_fill(shut, -torch.inf).sort(dim=1, descending=True, stable=True)
    fall = fall.masked_fill(shut, -torch.inf).gather(1, order)
    nobody = torch.full_like(fall[:, :1], -torch.inf)
    largest = torch.cat([nobody, fall.cummax(dim=1).values[:, :-1]], dim=1)
    second = torch.minimum(fall, largest).cummax(dim=1).values
    second = torch.cat([nobody, second[:, :-1]], dim=1)  # of those before
    kept = fall > second
    count = max(int(kept.sum(dim=1).max()), 1)
    place = kept.long().sort(dim=1, descending=True, stable=True).indices[:, :count]
    missing = ~kept.gather(1, place)
    gain, fall = (each.gather(1, place).masked_fill(missing, -torch.inf) for each in (gain, fall))
    order = order.gather(1, place)
    size = max(MOST_PAIRS // count**2, 1)
    parts = zip(torch.split(gain, size), torch.split(fall, size), strict=True)
    found = [_best(*both) for both in parts]
    best, product = (torch.cat(part) for part in zip(*found, strict=True))
    pair = torch.stack([best // count, best % count], dim=1)
    return order.gather(1, pair), product > 0


def _best(gain: Tensor, fall: Tensor) -> tuple[Tensor, Tensor]:
    """Index in (P, P) of the best pair, int64 (N,), and its product, 0 where there is none."""
    gains, falls = (each[:, :, None] + each[:, None, :] for each in (gain, fall))
    product = torch.where((gains > 0) & (falls > 0), gains * falls, 0)
    product.diagonal(dim1=1, dim2=2).zero_()
    most, best = product.flatten(1).max(dim=1)
    return best, most


def _logit(model: nn.Module, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    logits = model(images)
    return logits.gather(1, classes[:, None])[:, 0], logits


def _sum_of_logits(model: nn.Module, images: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    logits = model(images)
    return logits.sum(dim=1), logits
