"""Attacks that step along the sign of a loss's gradient inside an L-infinity ball."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.base import Goal, Norm, uniform_noise
from robustbench_pcl.attacks.iterative import IterativeAttack
from robustbench_pcl.attacks.losses import attack_loss
from robustbench_pcl.engine.victim import Evaluation, Victim
from robustbench_pcl.engine.walk import State
from robustbench_pcl.specs.units import parse_eps


@dataclass(frozen=True)
class SignGradientAttack(IterativeAttack):
    """Steps along the sign of the loss's gradient inside an L-infinity ball (Eq. 16-19, 22, 23).

    A member says where it starts and what it does with the gradient; this class owns the step,
    the projection on the ball and on [0, 1].
    """

    norm: ClassVar[Norm] = "linf"
    retires: ClassVar[bool] = True

    eps: float = field(default=8 / 255, metadata={"doc": "largest change of a pixel, in [0, 1]"})
    steps: int = field(default=10, metadata={"doc": "gradient steps"})
    relative_step_size: float = field(default=0.1, metadata={"doc": "step size, as a share of eps"})
    loss: str = field(
        default="cross-entropy", metadata={"doc": "cross-entropy, margin, or joint (adaptive)"}
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", parse_eps(self.eps))
        attack_loss(self.loss)
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; an attack takes at least one")
        if not self.relative_step_size > 0:
            raise ValueError(f"relative_step_size is {self.relative_step_size}, not positive")

    def within(
        self, victim: Victim, images: Tensor, goal: Goal, eps: Tensor, noise: Tensor
    ) -> Tensor:
        """Run the attack with a budget for each image, all steps of all images together.

        Args:
            victim: the model, frozen.
            images: float (N, C, H, W) in [0, 1].
            goal: what to do to each.
            eps: float (N, 1, 1, 1), budgets.
            noise: float (N, C, H, W) in [-1, 1], where to start, as a share of the budget.
        """
        sign = torch.full_like(goal.labels, goal.sign)
        state = {"images": images, "labels": goal.labels, "sign": sign, "step": 0 * sign}
        state = self._at(state, eps, noise)
        for _ in range(self.steps):
            found = victim.evaluate(partial(self.objective, state=state), state["adversarial"])
            state = self.step(victim, state, found)
        return state["adversarial"]

    def start(self, state: State, seeds: Tensor) -> State:
        """At the image, or at a random point of the ball."""
        images = state["images"]
        noise = uniform_noise(images, seeds) if self.random_start else torch.zeros_like(images)
        return self._at(state, images.new_full((len(images), 1, 1, 1), self.eps), noise)

    def candidates(self, state: State) -> Tensor:
        """Where the images are."""
        return state["adversarial"]

    def objective(self, model: nn.Module, images: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """The attack's loss."""
        return attack_loss(self.loss)(model, images, state["labels"])

    def step(
        self,
        victim: Victim,  # noqa: ARG002 - the pass is enough
        state: State,
        found: Evaluation,
    ) -> State:
        """One step, back into the ball and into [0, 1]."""
        images, eps = state["images"], state["eps"]
        gradient = state["sign"][:, None, None, None] * found.gradient
        direction = self.direction(gradient, state["direction"])
        moved = state["adversarial"] + self.relative_step_size * eps * direction.sign()
        lowest, highest = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
        return {
            **state,
            "adversarial": moved.clamp(lowest, highest),
            "direction": direction,
            "step": state["step"] + 1,
        }

    def result(self, state: State) -> Tensor:
        """Where the images are."""
        return state["adversarial"]

    def direction(self, gradient: Tensor, previous: Tensor) -> Tensor:  # noqa: ARG002 - for MIM
        """The direction (N, C, H, W) whose sign is followed; by default the gradient itself."""
        return gradient

    def _at(self, state: State, eps: Tensor, noise: Tensor) -> State:
        images = state["images"]
        lowest, highest = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
        return {
            **state,
            "eps": eps,
            "adversarial": (images + eps * noise).clamp(lowest, highest),
            "direction": torch.zeros_like(images),
        }
