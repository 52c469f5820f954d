"""Adversarial training images."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Goal
from robustbench_pcl.attacks.sign_gradient import SignGradientAttack
from robustbench_pcl.engine.shortcuts import Precision
from robustbench_pcl.engine.twin import Twin
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
    with Victim(model) as victim:
        victim.attack_on(_twin(model, images))
        return attack.within(victim, images, goal, eps.to(images), noise)


_TWINS: WeakKeyDictionary[nn.Module, Twin] = WeakKeyDictionary()
"""Of models in training: made once, given the present weights before each attack."""


def _twin(model: SupervisedModel, images: Tensor) -> Twin:
    """The model's twin, in the precision that the model itself is being trained in."""
    reduced = torch.is_autocast_enabled(images.device.type)
    precision: Precision = "bfloat16" if reduced else "float32"
    known = _TWINS.get(model)
    if known is None or known.precision != precision:
        _TWINS[model] = Twin(model, images[:1], precision)
    else:
        known.refresh()
    return _TWINS[model]


def answers(model: SupervisedModel, images: Tensor) -> Tensor:
    """The model's logits (N, K) in eval mode, without a gradient."""
    with Victim(model) as victim:
        return victim.logits(images)


def equal_budgets(images: Tensor, eps: float) -> Tensor:
    """The same budget for each image, (N, 1, 1, 1)."""
    return torch.full((len(images), 1, 1, 1), eps)
