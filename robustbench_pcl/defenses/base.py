"""The shape of a defence, and the plain one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Goal, SignGradientAttack
from robustbench_pcl.attacks.victim import Victim
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses.supervised import Step, SupervisedModel


@dataclass(frozen=True)
class Defense(ABC):
    """A training scheme is its parameters; it turns a batch into the terms to minimise."""

    @abstractmethod
    def step(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """The terms of one training step.

        Args:
            model: in train mode; left in it.
            images: float (N, C, H, W) in [0, 1], augmented.
            labels: int64 (N,).
            generator: on the CPU, for everything random.
        """


@dataclass(frozen=True)
class Standard(Defense):
    """Training on clean images."""

    def step(
        self,
        model: SupervisedModel,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,  # noqa: ARG002 - nothing random
    ) -> Step:
        """The criterion's terms on the clean images."""
        return model.step(images, labels)


def training_attack(name: str, steps: int, relative_step_size: float) -> SignGradientAttack:
    """The attack that a defence trains against; it maximises the joint loss (Algorithm 1).

    Raises:
        UserError: the attack has no budget that could be drawn for each image.
    """
    member = ATTACKS[name]
    if not issubclass(member, SignGradientAttack):
        raise UserError(
            f"{name} has no L-infinity budget to train against.", "Use fgsm, bim, mim or pgd."
        )
    return member(steps=steps, relative_step_size=relative_step_size, loss="joint")


def craft(
    attack: SignGradientAttack,
    model: SupervisedModel,
    images: Tensor,
    labels: Tensor,
    *,
    eps: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Adversarial training images with budgets eps (N, 1, 1, 1), on the model in eval mode."""
    noise = torch.zeros_like(images)
    if attack.random_start:
        noise = (torch.rand(images.shape, generator=generator) * 2 - 1).to(images)
    with Victim(model) as victim:
        return attack.within(victim, images, Goal(labels), eps.to(images), noise)
