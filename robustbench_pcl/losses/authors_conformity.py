"""The loss that the authors' published code minimises, which differs from Eq. 5."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustbench_pcl.losses.base import FeatureLoss, squared_distances


class AuthorsConformity(FeatureLoss):
    """Two separate sets of centres: one that attracts its own class, one that repels the others.

        |f - a_y|^2 - w * mean_{j != y} |f - r_j|^2

    with w = 1e-4 (1e-5 in their adversarial training). Distances between centres do not occur.
    Both sets start from a standard normal distribution. The attracting centres learn at rate 0.5;
    the repelling ones at 1e-4 on a gradient that is divided by w.

    Args:
        dimension: of the features.
        classes: number of classes.
        repulsion: w.
        weight: of the attracting term.
    """

    REPELLING_LEARNING_RATE = 1e-4

    def __init__(
        self, dimension: int, classes: int, *, repulsion: float = 1e-4, weight: float = 1.0
    ) -> None:
        super().__init__()
        if not repulsion > 0:
            raise ValueError(f"repulsion is {repulsion}; it must be positive")
        self.repulsion, self.weight = repulsion, weight
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
        return [
            {"params": [self.attracting], "lr": learning_rate},
            {"params": [self.repelling], "lr": self.REPELLING_LEARNING_RATE / self.repulsion},
        ]
