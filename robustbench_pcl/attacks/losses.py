"""What an attack maximises. Each gives one value per image, so no image depends on its batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import F, torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustbench_pcl.attacks.base import Chunk
    from robustbench_pcl.attacks.target import TargetModel

TINY = 1e-12
"""Added to a denominator that is zero where logits are equal (as Croce and Hein's code does)."""


class AttackLoss(StrEnum):
    """The losses an attack by gradients can maximise; for a target class, it minimises them."""

    cross_entropy = "cross-entropy"
    mifpe = "mifpe"
    margin = "margin"
    dlr = "dlr"
    targeted_dlr = "targeted-dlr"
    joint = "joint"
    prototype = "prototype"
    feature = "feature"

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each image, (N,), and the logits (N, K) of the same pass.

        Args:
            model: images to logits; for the losses on features, one that carries them.
            images: float (N, C, H, W).
            labels: int64 (N,); for the margin and the targeted DLR also (N, 2), label and target;
                for the distance of features (N, D), the clean images'.

        Raises:
            UserError: the model does not carry what the loss acts on.
        """
        if self in CARRIED:
            values, logits = carried(model, CARRIED[self])(images, labels)
            return values, logits
        logits = model(images)
        return ON_LOGITS[self](logits, labels), logits

    def aims(self, target: TargetModel, chunk: Chunk) -> Tensor:
        """What the loss takes one row of per image: the goal's labels, or the clean features.

        Raises:
            UserError: the model carries no features, or they are to lead to a target class.
        """
        if self is not AttackLoss.feature:
            return chunk.goal.labels
        if chunk.goal.targeted:
            raise UserError(
                "The distance of features leads away from an image, to no class in particular.",
                "Reach a target class by the loss margin or targeted-dlr.",
            )
        return target.logits(chunk.images, carried(target.model, "all_features"))


@dataclass(frozen=True)
class ScaledCrossEntropy:
    """Cross-entropy of logits times a factor.

    With a factor of 30, a model is attacked as if its logits were 30 times as large: that shows
    from which size on its gradients vanish. With 1/30, what vanished comes back.

    Attributes:
        scale: the factor.
    """

    scale: float

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each image, (N,), and the model's own logits (N, K)."""
        logits = model(images)
        return cross_entropy(logits * self.scale, labels), logits


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, (N,), of logits (N, K) with labels int64 (N,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def mifpe(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits in units of the gap between the two largest, (N,).

    "Minimising the Impact of Floating-Point Error" (Yu and Xu, CVPR 2023): no gradient goes through
    the gap, so that the direction is cross-entropy's, which in these units saturates for no image,
    whatever the size of its logits. Values of different images, or steps, do not compare.

    Args:
        logits: float (N, K).
        labels: int64 (N,).
    """
    largest = logits.detach().topk(2, dim=1).values
    gap = largest[:, :1] - largest[:, 1:]
    return cross_entropy(logits / (gap + TINY), labels)


def logit_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest other logit minus the label's, (N,): positive where the label is not predicted.

    It still has a gradient where cross-entropy has saturated.

    Args:
        logits: float (N, K).
        labels: int64 (N,), or (N, 2): a label and the one other class that counts.
    """
    if labels.ndim == 2:
        both = logits.gather(1, labels)
        return both[:, 1] - both[:, 0]
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - own


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of Logits Ratio, (N,): the margin over z_(1) - z_(3), z_(k) the k-th largest.

    Croce and Hein (ICML 2020), Eq. 6. It is the same for logits of any scale. With two classes
    there is no third logit, and whatever is the same for two logits of any scale has no slope: it
    is the margin itself.

    Args:
        logits: float (N, K).
        labels: int64 (N,), or (N, 2) as for the margin.
    """
    margin = logit_margin(logits, labels)
    if logits.shape[1] == 2:
        return margin
    largest = logits.topk(3, dim=1).values
    return margin / (largest[:, 0] - largest[:, 2] + TINY)


def targeted_dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """DLR towards a class, (N,): the margin over z_(1) - (z_(3) + z_(4)) / 2.

    Croce and Hein (ICML 2020), Eq. 7. With three classes the mean is of z_(2) and z_(3), because
    over z_(1) - z_(3) an image of the first class has no slope towards the third; with two, it is
    the margin itself, as for :func:`dlr`.

    Args:
        logits: float (N, K).
        labels: int64 (N, 2), label and target; (N,) for the label against the likeliest other.
    """
    margin, classes = logit_margin(logits, labels), logits.shape[1]
    if classes == 2:
        return margin
    largest = logits.topk(min(classes, 4), dim=1).values
    return margin / (largest[:, 0] - largest[:, -2:].mean(dim=1) + TINY)


ON_LOGITS: dict[AttackLoss, Callable[[Tensor, Tensor], Tensor]] = {
    AttackLoss.cross_entropy: cross_entropy,
    AttackLoss.mifpe: mifpe,
    AttackLoss.margin: logit_margin,
    AttackLoss.dlr: dlr,
    AttackLoss.targeted_dlr: targeted_dlr,
}
"""Logits (N, K) and labels to values (N,)."""


CARRIED = {
    AttackLoss.joint: "joint_loss",
    AttackLoss.prototype: "prototype_loss",
    AttackLoss.feature: "feature_loss",
}
"""The methods of a model that carries its prototypes: images and labels to values and logits."""


def carried(model: nn.Module, method: str) -> Callable[..., Any]:
    """What only a model can compute that carries what it was trained with.

    The joint loss is the adaptive attack of Table 4, Eq. 8.

    Raises:
        UserError: the model has no such method.
    """
    if not hasattr(model, method):
        raise UserError(
            f"A {type(model).__name__} has no prototypes to attack.",
            "Losses on features (joint, prototype, feature) need a model trained by pclbench.",
        )
    return cast("Callable[..., Any]", getattr(model, method))
