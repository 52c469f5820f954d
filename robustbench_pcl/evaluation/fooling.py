"""Fooling radii: the smallest perturbation that is found to fool a model, image by image."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.base import Attack, Goal, draw_seeds
from robustbench_pcl.attacks.fab import FAB
from robustbench_pcl.attacks.fast_model import shortcuts_for
from robustbench_pcl.attacks.gradient_descent import PGD
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.attacks.stages import run_all
from robustbench_pcl.attacks.target import TargetModel

NEAREST = FAB(steps=40)
"""What looks for the nearest adversarial image."""
DESCENTS = tuple(PGD(loss=loss, steps=20) for loss in (AttackLoss.margin, AttackLoss.mifpe))
"""What tries budgets below its size, one after the other."""
HALVINGS = 7
"""Of the interval between a budget that did not fool and the smallest perturbation that did."""
FOUND_BY = "FAB-T-40, then PGD-20 on margin and on mifpe with smaller budgets"
"""All of that, in words."""


def fooling_radii(
    model: nn.Module, images: Tensor, labels: Tensor, largest_eps: float, *, seed: int = 0
) -> Tensor:
    """The L-infinity size of the smallest perturbation found that fools the model, float64 (N,).

    Each is of an image that the model itself was seen to classify otherwise, measured from the
    clean one: whatever attacks missed, the true radius is not larger. 0 where the clean image is
    wrong, NaN where nothing was found.

    Args:
        model: maps images to logits (N, K); normalisation is inside it.
        images: float (N, C, H, W) in [0, 1], N at least 1.
        labels: int64 (N,).
        largest_eps: the largest perturbation that is looked for, in pixels of [0, 1].
        seed: of random starts.

    Raises:
        InvalidInputError: images, labels or the model are not what can be judged.
    """
    images = images.detach()
    nearest = NEAREST.changed(eps=largest_eps)(model, images, labels)
    seeds = draw_seeds(len(images), torch.Generator().manual_seed(seed)).to(images.device)
    with TargetModel(model, replace(shortcuts_for(images.device), early_stop=True)) as target:
        target.classes = target.logits(images[:1]).shape[1]

        def sizes(made: Tensor) -> Tensor:
            """Of what was made of the images, (N,); infinite where it does not fool."""
            fooled = target.logits(made).argmax(dim=1) != labels
            change = (made.double() - images.double()).abs().flatten(1).amax(dim=1)
            return change.masked_fill(~fooled, torch.inf)

        def within(attack: Attack, eps: Tensor, where: Tensor) -> Tensor:
            """The sizes of what an attack makes within budgets (N,) of some of the images."""
            widest, goal = attack.changed(eps=largest_eps), Goal(labels, eps=eps)
            return sizes(run_all(widest, target, images, goal, seeds, where).images)

        found = torch.minimum(sizes(images), sizes(nearest))
        withstood, eps = torch.zeros_like(found), found.clamp_max(largest_eps)
        for number in range(HALVINGS + 1):
            if number:
                eps = (withstood + found) / 2
            for attack in DESCENTS:
                found = torch.minimum(found, within(attack, eps, found > eps))
            withstood = torch.where(found > eps, eps, withstood)
    return found.masked_fill(found.isinf(), torch.nan)
