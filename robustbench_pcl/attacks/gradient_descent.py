"""FGSM, BIM, MIM and PGD: steps along a loss's gradient, or its sign, inside a ball.

Section 5, Eq. 16 to 19, 22 and 23, with the parameters of Table 2.
"""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from robustbench_pcl.attacks.balls import Ball, ball
from robustbench_pcl.attacks.base import Chunk, Goal, Stage, starts
from robustbench_pcl.attacks.fast_model import EXACT
from robustbench_pcl.attacks.losses import AttackLoss, ScaledCrossEntropy, logit_margin
from robustbench_pcl.attacks.passes import Pass
from robustbench_pcl.attacks.rows import Rows
from robustbench_pcl.attacks.runner import IterativeAttack, State
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import Count, Positive, Radius, later
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
        ball: in which they stay.
        aims: what the loss takes beside the images: mostly the goal's labels, int64 (N,).
        direction: float (N, C, H, W), which the last step followed; zero before the first.
    """

    ball: Ball
    aims: Tensor | Rows
    direction: Tensor


class Descent(IterativeAttack[DescentState]):
    """Steps of set sizes along a gradient, inside a ball: along its sign where that is L-infinity.

    A member says of what the gradient is, what the steps make of it, and how long they are.

    Attributes:
        random_start: it starts at a random point of the ball, not at the image.
    """

    early_stop: ClassVar[bool] = True
    random_start: ClassVar[bool] = False

    eps: Radius = Field(8 / 255, description="largest perturbation, in pixels of [0, 1]")
    steps: Count = Field(10, description="gradient steps")

    def initialise(self, target: TargetModel, chunk: Chunk) -> DescentState:
        """At the image, or at a random point of the ball."""
        inside = ball(chunk, self.norm, self.eps)
        return DescentState(
            chunk=chunk,
            step=torch.zeros_like(chunk.rows),
            adversarial=inside.random(chunk.seeds) if self.random_start else chunk.images,
            ball=inside,
            aims=self.aims(target, chunk),
            direction=torch.zeros_like(chunk.images),
        )

    def step(self, target: TargetModel, state: DescentState) -> tuple[DescentState, Pass]:
        """The gradient, a step along its direction, back into the ball."""
        found = self.differentiate(target, state)
        gradient = -found.gradient if self.descends(state.chunk.goal) else found.gradient
        direction = self.direction(gradient, state.direction)
        inside = state.ball
        size = self.step_sizes(state.step)[:, None, None, None].to(direction) * inside.eps
        projected = inside.project(state.adversarial + size * inside.steepest(direction))
        after = replace(state, adversarial=projected, direction=direction, step=state.step + 1)
        return after, found

    def aims(self, target: TargetModel, chunk: Chunk) -> Tensor | Rows:  # noqa: ARG002 - for members
        """What :meth:`differentiate` needs one row of per image, beside the images themselves."""
        return chunk.goal.labels

    @abstractmethod
    def differentiate(self, target: TargetModel, state: DescentState) -> Pass:
        """The pass of ``state.adversarial`` with the gradient of what is to grow.

        For a target class it is to shrink.
        """

    def descends(self, goal: Goal) -> bool:
        """What is differentiated is to shrink."""
        return goal.targeted

    @abstractmethod
    def step_sizes(self, step: Tensor) -> Tensor:
        """The size of steps number ``step``, int64 (N,), from 0, as shares of eps, float (N,)."""

    def direction(self, gradient: Tensor, previous: Tensor) -> Tensor:  # noqa: ARG002 - for members
        """The direction (N, C, H, W) that is followed; by default the gradient itself.

        Args:
            gradient: of what is to grow, float (N, C, H, W), finite.
            previous: the direction of the step before; zero in the first.
        """
        return gradient


class GradientDescent(Descent):
    """Steps of one size along a loss's gradient.

    Attributes:
        memoryless: a step depends on where an image is alone, so that one that stays where it is
            stays there for good: its gradient is zero, or all pixels are at an end of the ball.
    """

    memoryless: ClassVar[bool] = False

    relative_step_size: Positive = Field(0.1, description="step size, as a share of eps")
    loss: AttackLoss = Field(
        AttackLoss.cross_entropy, description=f"what is maximised: {', '.join(AttackLoss)}"
    )
    restarts: Count = later(1, "starts, each for the images that withstood those before")
    target_class: Literal["none", "likeliest", "least-likely", "random"] = later(
        "none", "wrong class it goes towards: none in particular, likeliest, least-likely, random"
    )
    logit_scale: Positive = later(
        1.0, "factor on the logits inside cross-entropy: small ones undo saturation"
    )

    def stages(self, classes: int) -> tuple[Stage, ...]:  # noqa: ARG002 - the same for all
        """One for each start, from a point of its own."""
        return starts(self.changed(restarts=1), self.restarts)

    @model_validator(mode="before")
    @classmethod
    def _as_far_in_all(cls, given: Any) -> Any:
        """With other steps than the default's, a step size that is not given goes as far in all.

        PGD's is 2.5 eps / steps then, as is usual since Madry et al. (2017); BIM's and MIM's
        eps / steps.
        """
        size, steps = (cls.model_fields[name].default for name in ("relative_step_size", "steps"))
        if isinstance(given, dict) and "steps" in given and "relative_step_size" not in given:
            with contextlib.suppress(ValueError, TypeError, ZeroDivisionError):  # refused later
                return {**given, "relative_step_size": size * steps / int(given["steps"])}
        return given

    @model_validator(mode="after")
    def _scales_cross_entropy(self) -> Self:
        if self.logit_scale != 1 and self.loss is not AttackLoss.cross_entropy:
            raise ValueError(f"logit_scale acts on cross-entropy, not on {self.loss}")
        return self

    def initialise(self, target: TargetModel, chunk: Chunk) -> DescentState:
        """As all; at a random point where the image itself is the least of the loss."""
        state = super().initialise(target, chunk)
        if self.loss is AttackLoss.feature:
            return replace(state, adversarial=state.ball.random(chunk.seeds))
        return state

    def step(self, target: TargetModel, state: DescentState) -> tuple[DescentState, Pass]:
        """As all; who stays where it is has nothing to gain from further steps."""
        after, found = super().step(target, state)
        if self.memoryless and target.shortcuts != EXACT:
            stays = (after.adversarial == state.adversarial).flatten(1).all(dim=1)
            after = replace(after, step=torch.where(stays, self.steps, after.step))
        return after, found

    def aims(self, target: TargetModel, chunk: Chunk) -> Tensor:
        """The loss's own, or the class that it is to be minimised for."""
        if self.target_class == "none" or chunk.goal.targeted:
            return self.loss.aims(target, chunk)
        own = chunk.goal.labels
        if self.target_class == "random":
            return (own + 1 + chunk.seeds % (target.classes - 1)) % target.classes
        least = self.target_class == "least-likely"
        wrong = target.logits(chunk.images) * (-1 if least else 1)
        return wrong.scatter(1, own[:, None], -torch.inf).argmax(dim=1)

    def descends(self, goal: Goal) -> bool:
        """It minimises its loss, for the goal's target class or its own."""
        return goal.targeted or self.target_class != "none"

    def differentiate(self, target: TargetModel, state: DescentState) -> Pass:
        """The gradient of the loss."""
        plain = self.logit_scale == 1
        loss = self.loss if plain else ScaledCrossEntropy(self.logit_scale)
        return target.differentiate(loss, state.adversarial, state.aims, exact=state.exact)

    def step_sizes(self, step: Tensor) -> Tensor:
        """All the same."""
        return torch.full_like(step, self.relative_step_size, dtype=torch.float64)

    def likely_fooled(self, state: DescentState, after: DescentState, found: Pass) -> Tensor:
        """Whose margin is positive after the step, if it grows as ``TRUST`` says.

        Cross-entropy's gradient is the margin's times 1 - p(label), where two classes matter.
        """
        goal = state.chunk.goal
        known = self.loss in (AttackLoss.cross_entropy, AttackLoss.margin)
        if not known or self.descends(goal) or self.logit_scale != 1:
            return torch.zeros_like(found.blind)
        growth = ((after.adversarial - state.adversarial) * found.gradient).sum(dim=(1, 2, 3))
        if self.loss is AttackLoss.cross_entropy:
            growth = growth / -torch.expm1(-found.values)
        trust = torch.where(state.step == 0, *TRUST)
        return logit_margin(found.logits, goal.labels) + trust * growth > 0


class FGSM(GradientDescent):
    r"""Fast Gradient Sign Method: one step of size eps (Goodfellow et al. 2015; Eq. 16).

    .. math::

        x' = x + \epsilon \operatorname{sign} \nabla_x \mathcal{L}(x, y)
    """

    memoryless: ClassVar[bool] = True

    name: Literal["fgsm"] = "fgsm"
    steps: Count = Field(1, description="gradient steps")
    relative_step_size: Positive = Field(1.0, description="step size, as a share of eps")


class BIM(GradientDescent):
    r"""Basic Iterative Method: FGSM in small steps (Kurakin et al. 2016; Eq. 17).

    .. math::

        x_0 = x, \qquad x_{m+1} = \Pi \left( x_m + \alpha \operatorname{sign}
        \nabla_x \mathcal{L}(x_m, y) \right)

    with the step size :math:`\alpha`, a share of :math:`\epsilon`.
    """

    memoryless: ClassVar[bool] = True

    name: Literal["bim"] = "bim"


class MIM(GradientDescent):
    r"""Momentum Iterative Method: BIM along a sum of gradients (Dong et al. 2018; Eq. 18, 19).

    .. math::

        g_{m+1} = \mu g_m + \frac{\nabla_x \mathcal{L}(x_m, y)}
        {\| \nabla_x \mathcal{L}(x_m, y) \|_1}, \qquad
        x_{m+1} = \Pi \left( x_m + \alpha \operatorname{sign} g_{m+1} \right)

    with the decay factor :math:`\mu` and the step size :math:`\alpha`, a share of :math:`\epsilon`.
    """

    name: Literal["mim"] = "mim"
    momentum: float = Field(1.0, description="decay factor mu of the running sum")

    def direction(self, gradient: Tensor, previous: Tensor) -> Tensor:
        """Eq. 18, a sum of L1-normalised gradients; one that is zero adds nothing to it."""
        length = gradient.abs().sum(dim=(1, 2, 3), keepdim=True)
        smallest = torch.finfo(gradient.dtype).tiny
        return self.momentum * previous + gradient / length.clamp_min(smallest)


class PGD(GradientDescent):
    r"""Projected Gradient Descent: BIM from a random point (Madry et al. 2017; Eq. 22, 23).

    .. math::

        x_0 \sim \mathcal{U}(x - \epsilon, x + \epsilon), \qquad
        x_{m+1} = \Pi \left( x_m + \alpha \operatorname{sign} \nabla_x \mathcal{L}(x_m, y) \right)

    with the step size :math:`\alpha`, a share of :math:`\epsilon`.
    """

    name: Literal["pgd"] = "pgd"
    random_start: ClassVar[bool] = True
    memoryless: ClassVar[bool] = True
    relative_step_size: Positive = Field(0.25, description="step size, as a share of eps")
    schedule: Literal["constant", "cosine"] = later(
        "constant", "of the step size: constant, or cosine, which falls to 0"
    )

    def step_sizes(self, step: Tensor) -> Tensor:
        """All the same, or along half a cosine."""
        sizes = super().step_sizes(step)
        return sizes if self.schedule == "constant" else sizes * half_cosine(step, self.steps)


def half_cosine(step: Tensor, steps: int) -> Tensor:
    """From 1 at step 0, int64 (N,), down to 0 at ``steps``, float (N,)."""
    return (1 + torch.cos(math.pi * step.double() / steps)) / 2
