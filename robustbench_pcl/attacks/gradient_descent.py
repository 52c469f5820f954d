"""FGSM, BIM, MIM and PGD: steps along the sign of a loss's gradient inside an L-infinity ball.

Section 5, Eq. 16 to 19, 22 and 23, with the parameters of Table 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from robustbench_pcl.attacks.base import Chunk, Norm
from robustbench_pcl.attacks.losses import AttackLoss, logit_margin
from robustbench_pcl.attacks.runner import IterativeAttack, State
from robustbench_pcl.attacks.target import Pass, TargetModel
from robustbench_pcl.configuration import Count, Eps, Positive
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


TRUST = (0.7, 0.3)
"""How much of the growth that the gradient promises comes, in the first step and in later ones.
With these, 9 of 10 images of a standard conv6 that are asked about are fooled, and half of an
adversarially trained one's."""


@dataclass(frozen=True, eq=False)
class DescentState(State):
    """What an attack by gradient descent knows, one row per image.

    Attributes:
        eps: float (N, 1, 1, 1), budgets.
        low: float (N, C, H, W), lower end of the ball and of [0, 1].
        high: float (N, C, H, W), its upper end.
        direction: float (N, C, H, W), whose sign the last step followed; zero before the first.
    """

    eps: Tensor
    low: Tensor
    high: Tensor
    direction: Tensor


class GradientDescent(IterativeAttack[DescentState]):
    """Steps along the sign of the loss's gradient inside an L-infinity ball.

    A member says where it starts and what it makes of the gradient.

    Attributes:
        random_start: it starts at a random point of the ball, not at the image.
    """

    norm: ClassVar[Norm] = "linf"
    early_stop: ClassVar[bool] = True
    random_start: ClassVar[bool] = False

    eps: Eps = Field(8 / 255, description="largest change of a pixel, in [0, 1]")
    steps: Count = Field(10, description="gradient steps")
    relative_step_size: Positive = Field(0.1, description="step size, as a share of eps")
    loss: AttackLoss = Field(
        AttackLoss.cross_entropy, description="cross-entropy, margin, or joint (adaptive)"
    )

    def initialise(self, chunk: Chunk) -> DescentState:
        """At the image, or at a uniformly random point of the ball."""
        images = chunk.images
        budgets = torch.full_like(chunk.rows, self.eps, dtype=torch.float64)
        if chunk.goal.eps is not None:
            budgets = chunk.goal.eps
        low, high = linf_ball(images, budgets[:, None, None, None])
        eps = budgets[:, None, None, None].to(images)
        start = images
        if self.random_start:
            start = (images + eps * uniform_noise(images, chunk.seeds)).clamp(low, high)
        return DescentState(
            chunk=chunk,
            step=torch.zeros_like(chunk.rows),
            adversarial=start,
            eps=eps,
            low=low,
            high=high,
            direction=torch.zeros_like(images),
        )

    def step(self, target: TargetModel, state: DescentState) -> tuple[DescentState, Pass]:
        """The gradient, a step along the sign of its direction, back into the ball."""
        goal = state.chunk.goal
        found = target.differentiate(self.loss, state.adversarial, goal.labels, exact=state.exact)
        gradient = -found.gradient if goal.targeted else found.gradient
        direction = self.direction(gradient, state.direction)
        moved = state.adversarial + self.relative_step_size * state.eps * direction.sign()
        projected = moved.clamp(state.low, state.high)
        after = replace(state, adversarial=projected, direction=direction, step=state.step + 1)
        return after, found

    def likely_fooled(self, state: DescentState, after: DescentState, found: Pass) -> Tensor:
        """Whose margin is positive after the step, if it grows as ``TRUST`` says.

        Cross-entropy's gradient is the margin's times 1 - p(label), where two classes matter.
        """
        goal = state.chunk.goal
        if self.loss is AttackLoss.joint or goal.targeted:
            return torch.zeros_like(found.blind)
        growth = ((after.adversarial - state.adversarial) * found.gradient).sum(dim=(1, 2, 3))
        if self.loss is AttackLoss.cross_entropy:
            growth = growth / -torch.expm1(-found.values)
        trust = torch.where(state.step == 0, *TRUST)
        return logit_margin(found.logits, goal.labels) + trust * growth > 0

    def direction(self, gradient: Tensor, previous: Tensor) -> Tensor:  # noqa: ARG002 - for members
        """The direction (N, C, H, W) whose sign is followed; by default the gradient itself.

        Args:
            gradient: of what is to grow, float (N, C, H, W), finite.
            previous: the direction of the step before; zero in the first.
        """
        return gradient


class FGSM(GradientDescent):
    """Fast Gradient Sign Method: one step of size eps (Goodfellow et al. 2015; Eq. 16)."""

    name: Literal["fgsm"] = "fgsm"
    steps: Count = Field(1, description="gradient steps")
    relative_step_size: Positive = Field(1.0, description="step size, as a share of eps")


class BIM(GradientDescent):
    """Basic Iterative Method: FGSM in small steps (Kurakin et al. 2016; Eq. 17)."""

    name: Literal["bim"] = "bim"


class MIM(GradientDescent):
    """Momentum Iterative Method: BIM along a sum of gradients (Dong et al. 2018; Eq. 18, 19)."""

    name: Literal["mim"] = "mim"
    momentum: float = Field(1.0, description="decay factor mu of the running sum")

    def direction(self, gradient: Tensor, previous: Tensor) -> Tensor:
        """Eq. 18, a sum of L1-normalised gradients; one that is zero adds nothing to it."""
        length = gradient.abs().sum(dim=(1, 2, 3), keepdim=True)
        smallest = torch.finfo(gradient.dtype).tiny
        return self.momentum * previous + gradient / length.clamp_min(smallest)


class PGD(GradientDescent):
    """Projected Gradient Descent: BIM from a random point (Madry et al. 2017; Eq. 22, 23)."""

    name: Literal["pgd"] = "pgd"
    random_start: ClassVar[bool] = True
    relative_step_size: Positive = Field(0.25, description="step size, as a share of eps")


def linf_ball(images: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of the ball of radius ``eps`` (N, 1, 1, 1) around images, and of [0, 1].

    Rounded inwards: no pixel between them is further than eps from its image's, in any precision.
    """
    step = torch.finfo(images.dtype).eps  # at least the distance between neighbours below 1
    centre, radius = images.double(), eps.double()
    lowest, highest = (centre - radius).clamp_min(0), (centre + radius).clamp_max(1)
    low, high = lowest.to(images), highest.to(images)
    low = torch.where(low.double() < lowest, torch.minimum(low + step, images), low)
    high = torch.where(high.double() > highest, torch.maximum(high - step, images), high)
    return low, high


def uniform_noise(images: Tensor, seeds: Tensor) -> Tensor:
    """Uniform in [-1, 1], of the images' shape; each image's from its own seed, on any device."""
    source = torch.Generator()
    drawn = [
        torch.rand(images.shape[1:], generator=source.manual_seed(seed), dtype=images.dtype)
        for seed in seeds.tolist()
    ]
    return (torch.stack(drawn) * 2 - 1).to(images.device)
