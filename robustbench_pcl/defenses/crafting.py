"""Adversarial training images."""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Goal
from robustbench_pcl.attacks.sign_gradient import SignGradientAttack
from robustbench_pcl.engine.twin import twin_of
from robustbench_pcl.engine.victim import Victim
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses.supervised import SupervisedModel


def training_attack(name: str, steps: int, relative_step_size: float) -> SignGradientAttack:
    """The attack that a defence trains against; it maximises the joint loss (Algorithm 1).

    Raises:
        UserError: there is no such attack, or it has no budget that could be drawn for each image.
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
    goal: Goal,
    *,
    eps: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Adversarial training images with budgets eps (N, 1, 1, 1), on the model in eval mode."""
    noise = torch.zeros_like(images)
    if attack.random_start:
        noise = (torch.rand(images.shape, generator=generator) * 2 - 1).to(images)
    # The twin computes as the model itself is being trained.
    reduced = torch.is_autocast_enabled(images.device.type)
    with Victim(model) as victim:
        victim.attack_on(twin_of(model, images[:1], "bfloat16" if reduced else "float32"))
        return attack.within(victim, images, goal, eps.to(images), noise)


def answers(model: SupervisedModel, images: Tensor) -> Tensor:
    """The model's logits (N, K) in eval mode, without a gradient."""
    with Victim(model) as victim:
        return victim.logits(images)


def equal_budgets(images: Tensor, eps: float) -> Tensor:
    """The same budget for each image, (N, 1, 1, 1)."""
    return torch.full((len(images), 1, 1, 1), eps)
