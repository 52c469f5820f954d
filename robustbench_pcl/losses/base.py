"""The base class of the losses on features, and the sums that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class FeatureLoss(nn.Module, ABC):
    """A loss on one layer's features, with the parameters it learns (prototypes, centres).

    A member is built by its configuration as ``Loss(dimension, classes, **parameters)``, one for
    each feature layer.
    """

    @abstractmethod
    def per_image(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss of each image, (N,), of features (N, D) with labels int64 (N,).

        No image's loss depends on the others': an adaptive attack maximises it.
        """

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The batch's mean: the paper's sum over images divided by the batch size."""
        return self.per_image(features, labels).mean()

    def initialise(self, features: Tensor, labels: Tensor) -> None:
        """Set the loss's own parameters from training features (N, D), before its first step."""

    def calibrate(self, features: Tensor, labels: Tensor) -> None:
        """Set what inference needs from all training features (N, D), after the last step."""

    def anchors(self) -> Tensor:
        """The points (K, D) that stand for the classes among the features (Eq. 7).

        Its configuration says by ``has_anchors`` whether there are any.
        """
        raise NotImplementedError(f"{type(self).__name__} has no anchors")

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """The loss's own parameters with their learning rates, for plain SGD."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]


def squared_distances(features: Tensor, points: Tensor) -> Tensor:
    """Squared Euclidean distances (N, K) between features (N, D) and points (K, D).

    Through inner products, because differences would be N x K x D numbers; in float64 and around
    the points' mean, so that the small distances this package is about are not lost. Autocast
    leaves float64 alone.
    """
    centre = points.detach().mean(dim=0)
    near, far = features.double() - centre, points.double() - centre
    lengths = near.square().sum(dim=1)[:, None] + far.square().sum(dim=1)
    squared = torch.addmm(lengths, near, far.T, alpha=-2).clamp_min(0)
    return squared.to(torch.promote_types(features.dtype, points.dtype))


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The mean features (K, D) of each class; the overall mean for a class without images."""
    means = features.mean(dim=0).repeat(classes, 1)
    for label in torch.unique(labels).tolist():
        means[label] = features[labels == label].mean(dim=0)
    return means
