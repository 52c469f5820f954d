"""A smooth decision surface in input space (Yu et al. 2018 [45])."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from robustbench_pcl.defenses.base import Defense
from robustbench_pcl.defenses.checks import check_positive
from robustbench_pcl.specs.units import parse_eps

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from robustbench_pcl.data.spec import DatasetSpec
    from robustbench_pcl.losses.supervised import Step, SupervisedModel
    from robustbench_pcl.specs.base import Scalar


@dataclass(frozen=True)
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

    weight: float = field(default=0.005, metadata={"doc": "of the squared change of the surface"})
    eps: float = field(default=8 / 255, metadata={"doc": "budget, pixels in [0, 1]"})

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)
        object.__setattr__(self, "eps", parse_eps(self.eps))

    @classmethod
    def settings(cls, data: DatasetSpec, attack_steps: int) -> dict[str, Scalar]:  # noqa: ARG003
        """The data set's budget."""
        return {"eps": data.eps}

    def step(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """The criterion's terms on the clean images, and the surface's slope and curvature."""
        import torch

        from robustbench_pcl.attacks.losses import logit_margin
        from robustbench_pcl.defenses.passes import passed

        signs = torch.randint(2, images.shape, generator=generator).to(images) * 2 - 1
        moved = (images + self.eps * signs).clamp(0, 1)
        pixels = torch.cat([images, moved]).requires_grad_(True)
        found = passed(model, pixels, torch.cat([labels, labels]))
        surface = -logit_margin(found.logits, found.labels).sum()
        (slopes,) = torch.autograd.grad(surface, pixels, create_graph=True)
        here, there = slopes.flatten(1).chunk(2)
        scale = self.weight * self.eps**2 * math.prod(images.shape[1:])
        clean = found.take(slice(len(images)))
        return clean.step(
            {
                **clean.terms(model.criterion),
                "slope": scale * here.square().sum(dim=1).mean(),
                "curvature": scale * (there - here).square().sum(dim=1).mean(),
            }
        )
