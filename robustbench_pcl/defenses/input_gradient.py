"""Input gradient regularisation (Ross and Doshi-Velez 2018 [33])."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from robustbench_pcl.defenses.base import Defense
from robustbench_pcl.defenses.checks import check_positive

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from robustbench_pcl.data.spec import DatasetSpec
    from robustbench_pcl.losses.supervised import Step, SupervisedModel
    from robustbench_pcl.specs.base import Scalar

MNIST_WEIGHT = 56234 / (2 * 256)
"""What the authors' published code takes for MNIST, in the units of :class:`InputGradient`.

It halves the sum of squares and takes the gradient of a batch's mean, here of 256 images.
"""
MNIST_EPS, MNIST_PIXELS = 0.3, 28 * 28


@dataclass(frozen=True)
class InputGradient(Defense):
    """Penalise how strongly pixels change the loss, by double backpropagation.

    Minimised is L + weight * mean over images of sum over pixels of (d L_CE / d pixel)^2.
    """

    citation: ClassVar[str] = "Ross and Doshi-Velez 2018 [33]"

    weight: float = field(
        default=MNIST_WEIGHT, metadata={"doc": "of the squared gradient, lambda; pixels in [0, 1]"}
    )

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)

    @classmethod
    def settings(cls, data: DatasetSpec, attack_steps: int) -> dict[str, Scalar]:  # noqa: ARG003
        """MNIST's weight times (eps^2 * pixels), relative to MNIST's.

        [33] searches a weight for each data set. A change of eps in every pixel moves the loss by
        at most eps * sqrt(pixels) * |gradient|, so this scaling makes the penalty's meaning the
        same everywhere.
        """
        reach = data.eps**2 * math.prod(data.shape)
        return {"weight": MNIST_WEIGHT * reach / (MNIST_EPS**2 * MNIST_PIXELS)}

    def step(
        self,
        model: SupervisedModel,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,  # noqa: ARG002 - nothing random
    ) -> Step:
        """The criterion's terms on the clean images, and the penalty."""
        import torch

        from robustbench_pcl.defenses.passes import passed

        pixels = images.detach().requires_grad_(True)
        found = passed(model, pixels, labels)
        terms = found.terms(model.criterion)
        total = terms["cross_entropy"] * len(labels)
        (gradient,) = torch.autograd.grad(total, pixels, create_graph=True)
        squares = gradient.square().flatten(1).sum(dim=1)
        return found.step({**terms, "input_gradient": self.weight * squares.mean()})
