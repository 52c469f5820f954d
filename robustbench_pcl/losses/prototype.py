"""The Prototype Conformity Loss: Eq. 5 made to train, and what the authors' code minimises."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustbench_pcl.losses.criterion import FeatureLoss, class_means, squared_distances


class PrototypeConformity(FeatureLoss):
    r"""Pull each feature to its class's prototype, push it and the prototype from all others.

    Equation 5 as printed,

    .. math::

        \mathcal{L}_{PC} = \| f - w_y \|_2^2 - \frac{1}{k - 1} \sum_{j \neq y}
        \left( \| f - w_j \|_2^2 + \| w_y - w_j \|_2^2 \right),

    has no lower bound: its gradient in f (Eq. 6) is

    .. math::

        \frac{\partial \mathcal{L}_{PC}}{\partial f} = 2 \left(
        \frac{1}{k - 1} \sum_{j \neq y} w_j - w_y \right),

    which does not depend on f, so features and prototypes run away together and training collapses.
    Two changes make it train without a hyper-parameter for each data set (digits, F-MNIST and
    CIFAR-10 tried):

    * every distance is measured in units of a separation distance D, which is ``separation``
      times the root mean square distance between the class means of the features with which the
      joint phase starts. Layers and data sets differ a hundredfold in the size of their features;
      in these units they do not, and the loss and its gradient are of order one beside
      cross-entropy;
    * the two subtracted distances count up to D and no further ("a fixed and non-overlapping
      p-norm ball" for each class, Section 3). Closer than D the gradient is exactly Eq. 6; once
      the classes are D apart only the pull to the prototype is left, so the loss is bounded below
      by -2.

    The prototypes start at the class means.

    Args:
        dimension: of the features, D.
        classes: number of classes, k.
        separation: how far apart classes are pushed, in units of their distance at the start.
        weight: tau in Algorithm 1.
    """

    scale: Tensor

    def __init__(self, dimension: int, classes: int, *, separation: float, weight: float) -> None:
        super().__init__()
        self.separation, self.weight = separation, weight
        self.prototypes = nn.Parameter(torch.zeros(classes, dimension))
        self.register_buffer("scale", torch.ones(()))

    def initialise(self, features: Tensor, labels: Tensor) -> None:
        """Put the prototypes on the class means and set the unit of distance."""
        means = class_means(features, labels, len(self.prototypes))
        others = ~torch.eye(len(means), dtype=torch.bool, device=means.device)
        apart = squared_distances(means, means)[others].mean().sqrt()
        with torch.no_grad():
            self.scale.copy_(self.separation * apart.clamp_min(1e-6))
            self.prototypes.copy_(means / self.scale)

    def anchors(self) -> Tensor:
        """The prototypes among the features, in their own units."""
        return self.prototypes * self.scale

    def per_image(self, features: Tensor, labels: Tensor) -> Tensor:
        """Eq. 5 in units of the separation distance, its subtracted terms held at 1, (N,)."""
        classes = len(self.prototypes)
        units = features / self.scale
        # Images and prototypes are pushed alike: from the prototypes of the other classes.
        pushed, own = torch.cat([units, self.prototypes]), torch.arange(classes).to(labels)
        capped = squared_distances(pushed, self.prototypes).clamp(max=1)
        others = capped.scatter(1, torch.cat([labels, own])[:, None], 0).sum(dim=1)
        of_images, of_prototypes = others[: len(units)], others[len(units) :]
        pull = (units - self.prototypes.index_select(0, labels)).square().sum(dim=1)
        push = (of_images + of_prototypes.index_select(0, labels)) / (classes - 1)
        return self.weight * (pull - push)


class AuthorsConformity(FeatureLoss):
    r"""Two separate sets of centres: one that attracts its own class, one that repels the others.

    .. math::

        \| f - a_y \|_2^2 - \frac{w}{k - 1} \sum_{j \neq y} \| f - r_j \|_2^2

    with w = 1e-4 (1e-5 in their adversarial training). Distances between centres do not occur.
    Both sets start from a standard normal distribution. The attracting centres learn at rate 0.5;
    the repelling ones at 1e-4 on a gradient that is divided by w.

    Args:
        dimension: of the features, D.
        classes: number of classes, K.
        repulsion: w.
        weight: of the attracting term.
        repelling_rate: factor on the repelling centres' learning rate.
    """

    REPELLING_LEARNING_RATE = 1e-4

    def __init__(
        self,
        dimension: int,
        classes: int,
        *,
        repulsion: float,
        weight: float,
        repelling_rate: float,
    ) -> None:
        super().__init__()
        self.repulsion, self.weight, self.repelling_rate = repulsion, weight, repelling_rate
        self.attracting = nn.Parameter(torch.randn(classes, dimension))
        self.repelling = nn.Parameter(torch.randn(classes, dimension))

    def per_image(self, features: Tensor, labels: Tensor) -> Tensor:
        """Attraction less weighted repulsion, (N,)."""
        own = labels[:, None]
        pull = squared_distances(features, self.attracting).gather(1, own)[:, 0]
        push = squared_distances(features, self.repelling).scatter(1, own, 0).sum(dim=1)
        return self.weight * pull - self.repulsion * push / (len(self.repelling) - 1)

    def anchors(self) -> Tensor:
        """The attracting centres."""
        return self.attracting

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """The attracting centres at ``learning_rate``, the repelling ones at their own."""
        own = self.repelling_rate * self.REPELLING_LEARNING_RATE / self.repulsion
        return [
            {"params": [self.attracting], "lr": learning_rate},
            {"params": [self.repelling], "lr": own},
        ]
