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

MNIST_WEIGHT = 10**3.5 / (2 * 256)
"""For MNIST. [33] searches a weight for each data set; this is the middle of its range.

The authors' published code tries 13 weights from 100 to 100,000, in other units: it halves the sum
of squares and takes the gradient of the mean over a batch of 256. It settles on 56,234 for MNIST
and on 10,000 for SVHN, for 15,000 steps. A network with MNIST's own weight hardly leaves chance in
the hundreds of steps that the smaller scales train for; with the middle one it learns there too.
"""
MNIST_REACH = 0.3**2 * 28 * 28
"""eps^2 * pixels there."""


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
        """A weight in proportion to eps^2 * pixels, so that the penalty means the same everywhere.

        A change of eps in every pixel moves the loss by at most eps * sqrt(pixels) * |gradient|.
        """
        return {"weight": MNIST_WEIGHT * data.eps**2 * math.prod(data.shape) / MNIST_REACH}

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
