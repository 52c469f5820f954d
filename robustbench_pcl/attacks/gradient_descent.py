"""FGSM, BIM, MIM and PGD: steps along the sign of a loss's gradient inside an L-infinity ball.

Section 5, Eq. 16 to 19, 22 and 23, with the parameters of Table 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from robustbench_pcl.attacks.base import Chunk, Goal, Norm
from robustbench_pcl.attacks.losses import AttackLoss, joint_loss, logit_margin
from robustbench_pcl.attacks.runner import IterativeAttack, State
from robustbench_pcl.attacks.target import GradientPass, TargetModel
from robustbench_pcl.configuration import Count, Eps, Positive
from robustbench_pcl.lazy import F, torch

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class DescentState(State):
    """What an attack by gradient descent knows, one row per image.

    Attributes:
        eps: float (N, 1, 1, 1), budgets.
        direction: float (N, C, H, W), whose sign the last step followed; zero before the first.
    """

    eps: Tensor
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
        """At the image, or at a uniformly random point of the ball.

        Each image's point comes from its own seed and is the same on any device.
        """
        images = chunk.images
        noise = torch.zeros_like(images)
        if self.random_start:
            source = torch.Generator()
            drawn = [
                torch.rand(images.shape[1:], generator=source.manual_seed(seed), dtype=images.dtype)
                for seed in chunk.seeds.tolist()
            ]
            noise = (torch.stack(drawn) * 2 - 1).to(images.device)
        eps = images.new_full((len(images), 1, 1, 1), self.eps)
        return self.start(chunk.rows, images, chunk.goal, eps, noise)

    def start(
        self, rows: Tensor, images: Tensor, goal: Goal, eps: Tensor, noise: Tensor
    ) -> DescentState:
        """At ``images`` plus ``noise``, which is a share of each image's budget."""
        labels = goal.labels
        return DescentState(
            rows=rows,
            images=images,
            labels=labels,
            sign=torch.full_like(labels, -1 if goal.targeted else 1),
            step=torch.zeros_like(labels),
            adversarial=self.project(images + eps * noise, images, eps),
            passed=images[:, :0],
            predicted=torch.full_like(labels, -1),
            eps=eps,
            direction=torch.zeros_like(images),
        )

    def objective(
        self, model: nn.Module, images: Tensor, state: DescentState
    ) -> tuple[Tensor, Tensor]:
        """The attack's loss, (N,), and the logits (N, K)."""
        if self.loss is AttackLoss.joint:
            return joint_loss(model, images, state.labels)
        logits = model(images)
        if self.loss is AttackLoss.margin:
            return logit_margin(logits, state.labels), logits
        return F.cross_entropy(logits, state.labels, reduction="none"), logits

    def step(
        self,
        target: TargetModel,  # noqa: ARG002 - the pass is enough
        state: DescentState,
        found: GradientPass,
    ) -> DescentState:
        """One step, back into the ball and into [0, 1]."""
        gradient = state.sign[:, None, None, None] * found.gradient
        direction = self.direction(gradient, state.direction)
        moved = state.adversarial + self.relative_step_size * state.eps * direction.sign()
        return replace(
            state,
            adversarial=self.project(moved, state.images, state.eps),
            direction=direction,
            step=state.step + 1,
        )

    def direction(self, gradient: Tensor, previous: Tensor) -> Tensor:  # noqa: ARG002 - for members
        """The direction (N, C, H, W) whose sign is followed; by default the gradient itself.

        Args:
            gradient: of what is to grow, float (N, C, H, W).
            previous: the direction of the step before; zero in the first.
        """
        return gradient

    @staticmethod
    def project(moved: Tensor, images: Tensor, eps: Tensor) -> Tensor:
        """The nearest point of the ball around ``images`` and of [0, 1]."""
        return moved.clamp((images - eps).clamp(min=0), (images + eps).clamp(max=1))

    def attack_with_budgets(
        self, target: TargetModel, images: Tensor, goal: Goal, eps: Tensor, noise: Tensor
    ) -> Tensor:
        """Run the attack with a budget for each image, all steps of all images together.

        Args:
            target: the model, entered.
            images: float (N, C, H, W) in [0, 1].
            goal: what to do to each.
            eps: float (N, 1, 1, 1), budgets.
            noise: float (N, C, H, W) in [-1, 1], where to start, as a share of the budget.
        """
        rows = torch.arange(len(images), device=images.device)
        state = self.start(rows, images, goal, eps, noise)
        for _ in range(self.steps):
            found = target.evaluate(partial(self.objective, state=state), state.adversarial)
            state = self.step(target, state, found)
        return state.adversarial


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
