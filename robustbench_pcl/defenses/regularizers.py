"""Defences that penalise derivatives in the pixels: of the loss (Ross), of the margin (Yu)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from robustbench_pcl.attacks.losses import logit_margin
from robustbench_pcl.configuration import Eps, Positive, Scalar
from robustbench_pcl.defenses import Defense, forward_pass
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_pcl.data.datasets import DatasetSpec
    from robustbench_pcl.models.supervised import Step, SupervisedModel

MNIST_WEIGHT = 10**3.5 / (2 * 256)
"""For MNIST. [33] searches a weight for each data set; this is the middle of its range.

The authors' published code tries 13 weights from 100 to 100,000, in other units: it halves the sum
of squares and takes the gradient of the mean over a batch of 256. It settles on 56,234 for MNIST
and on 10,000 for SVHN, for 15,000 steps. A network with MNIST's own weight hardly leaves chance in
the hundreds of steps that the smaller scales train for; with the middle one it learns there too.
"""
MNIST_REACH = 0.3**2 * 28 * 28
"""eps^2 * pixels there."""


class InputGradient(Defense):
    """Penalise how strongly pixels change the loss, by double backpropagation.

    Minimised is L + weight * mean over images of sum over pixels of (d L_CE / d pixel)^2.
    """

    citation: ClassVar[str] = "Ross and Doshi-Velez 2018 [33]"

    name: Literal["ross"] = "ross"
    weight: Positive = Field(
        MNIST_WEIGHT, description="of the squared gradient, lambda; pixels in [0, 1]"
    )

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
        pixels = images.detach().requires_grad_(True)
        found = forward_pass(model, pixels, labels)
        terms = found.terms(model)
        total = terms["cross_entropy"] * len(labels)
        (gradient,) = torch.autograd.grad(total, pixels, create_graph=True)
        squares = gradient.square().flatten(1).sum(dim=1)
        return found.step({**terms, "input_gradient": self.weight * squares.mean()})


class DecisionSurface(Defense):
    """Penalise the slope and the curvature of the decision surface around each image.

    The surface is S(x) = z_y(x) - max over j != y of z_j(x), the label's logit above the largest
    other one; it crosses 0 at the decision boundary. By Taylor's theorem its first two derivatives
    in the pixels, J and H, bound how far a perturbation moves it. [45] trains with both small
    instead of with adversarial images. Its formula and weights could not be consulted; the variant
    here, whose weight is this project's choice, minimises

        L + weight * eps^2 * P * mean over images of (|J(x)|^2 + |J(x + delta) - J(x)|^2)

    with P the number of pixels and delta = eps * (random signs), clipped to [0, 1]. eps * sqrt(P)
    is the longest perturbation of the budget, so the two terms bound the square of how far it
    moves a plane surface, and of what bending adds. J's difference stands for H, which is 0 almost
    everywhere in a network of piecewise linear layers: over random signs its square averages to
    eps^2 times the squared Frobenius norm of H, wherever H is constant.
    """

    citation: ClassVar[str] = "Yu et al. 2018 [45]"

    name: Literal["yu"] = "yu"
    weight: Positive = Field(0.005, description="of the squared change of the surface")
    eps: Eps = Field(8 / 255, description="budget, pixels in [0, 1]")

    @classmethod
    def settings(cls, data: DatasetSpec, attack_steps: int) -> dict[str, Scalar]:  # noqa: ARG003
        """The data set's budget."""
        return {"eps": data.eps}

    def step(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """The criterion's terms on the clean images, and the surface's slope and curvature."""
        signs = torch.randint(2, images.shape, generator=generator).to(images) * 2 - 1
        moved = (images + self.eps * signs).clamp(0, 1)
        pixels = torch.cat([images, moved]).requires_grad_(True)
        found = forward_pass(model, pixels, torch.cat([labels, labels]))
        surface = -logit_margin(found.logits, found.labels).sum()
        (slopes,) = torch.autograd.grad(surface, pixels, create_graph=True)
        here, there = slopes.flatten(1).chunk(2)
        scale = self.weight * self.eps**2 * math.prod(images.shape[1:])
        clean = found.take(slice(len(images)))
        return clean.step(
            {
                **clean.terms(model),
                "slope": scale * here.square().sum(dim=1).mean(),
                "curvature": scale * (there - here).square().sum(dim=1).mean(),
            }
        )
