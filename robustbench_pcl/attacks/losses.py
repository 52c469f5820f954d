"""What an attack maximises. Each gives one value per image, so no image depends on its batch."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, cast

from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import F, torch

if TYPE_CHECKING:
    from torch import Tensor, nn


class AttackLoss(StrEnum):
    """The losses an attack by gradient descent can maximise."""

    cross_entropy = "cross-entropy"
    margin = "margin"
    joint = "joint"

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each image, (N,), and the logits (N, K) of the same pass.

        Args:
            model: images to logits; for the joint loss, one that carries what it was trained with.
            images: float (N, C, H, W).
            labels: int64 (N,).

        Raises:
            UserError: the model does not carry its loss.
        """
        if self is AttackLoss.joint:
            return joint_loss(model, images, labels)
        logits = model(images)
        if self is AttackLoss.margin:
            return logit_margin(logits, labels), logits
        return F.cross_entropy(logits, labels, reduction="none"), logits


class HasJointLoss(Protocol):
    """What the adaptive attack needs of a model."""

    def joint_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each image, (N,), and the logits (N, K) of the same pass."""


def logit_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit minus the label's, (N,): positive where the label is not predicted.

    It still has a gradient where cross-entropy has saturated.

    Args:
        logits: float (N, K).
        labels: int64 (N,).
    """
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - own


def joint_loss(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and the loss on features together: the adaptive attack of Table 4, Eq. 8.

    Raises:
        UserError: the model does not carry its loss.
    """
    if not hasattr(model, "joint_loss"):
        raise UserError(
            f"A {type(model).__name__} has no prototypes to attack.",
            "The adaptive attack (loss='joint') needs a model trained by pclbench.",
        )
    return cast(HasJointLoss, model).joint_loss(images, labels)
