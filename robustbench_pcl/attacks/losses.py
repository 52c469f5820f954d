"""What an attack maximises. Each gives one value an image, so no image depends on its batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_pcl.errors import UserError, unknown_name


class HasJointLoss(Protocol):
    """What the adaptive attack needs of a model."""

    def joint_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each image, (N,), and the logits (N, K) of the same pass."""


AttackLoss = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(model, images (N, C, H, W), labels (N,)) -> losses (N,), logits (N, K)."""


def cross_entropy(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the logits: the loss of every attack in Table 3."""
    logits = model(images)
    return F.cross_entropy(logits, labels, reduction="none"), logits


def logit_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit minus the label's, (N,): positive where the label is not predicted."""
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - own


def margin(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The logit margin, which still has a gradient where cross-entropy has saturated."""
    logits = model(images)
    return logit_margin(logits, labels), logits


def joint(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and the defence's own loss together: the adaptive attack of Table 4, Eq. 8.

    Raises:
        UserError: the model does not carry the loss that it was trained with.
    """
    if not hasattr(model, "joint_loss"):
        raise UserError(
            f"A {type(model).__name__} has no prototypes to attack.",
            "The adaptive attack (loss='joint') needs a model trained by pclbench.",
        )
    return cast(HasJointLoss, model).joint_loss(images, labels)


ATTACK_LOSSES: dict[str, AttackLoss] = {
    "cross-entropy": cross_entropy,
    "margin": margin,
    "joint": joint,
}


def attack_loss(name: str) -> AttackLoss:
    """The attack loss with that name.

    Raises:
        UserError: there is none.
    """
    if name not in ATTACK_LOSSES:
        raise unknown_name("attack loss", name, ATTACK_LOSSES)
    return ATTACK_LOSSES[name]
