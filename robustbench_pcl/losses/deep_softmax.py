"""Deep supervision by cross-entropy: a classifier at every feature layer (Table 10, left)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_pcl.losses.base import FeatureLoss


class DeepSoftmax(FeatureLoss):
    """Cross-entropy of a fully connected layer FC(K) on the features.

    The features enter FC(K) less their mean and in units of their root mean square length, both
    as they are when the loss first acts. That leaves the functions FC(K) can be as they are, and
    lets one learning rate fit every layer, whatever the size of its features: the curvature of
    cross-entropy in the weights is at most |(f, 1)|^2 / 2 with 1 for the bias, in these units 1 on
    average, so plain SGD is stable at rates below 2. The schedule's rate for a loss's own
    parameters, 0.5, is a quarter of that because features grow in training.

    Args:
        dimension: of the features, D.
        classes: number of classes, K.
        weight: factor on the cross-entropy.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dimension: int, classes: int, *, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.classifier = nn.Linear(dimension, classes)
        self.register_buffer("mean", torch.zeros(dimension))
        self.register_buffer("scale", torch.ones(()))

    def initialise(self, features: Tensor, labels: Tensor) -> None:  # noqa: ARG002 - of any class
        """Set the mean and the unit of the features."""
        with torch.no_grad():
            self.mean.copy_(features.mean(dim=0))
            lengths = (features - self.mean).square().sum(dim=1)
            self.scale.copy_(lengths.mean().sqrt().clamp_min(1e-6))

    def per_image(self, features: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each image, (N,)."""
        logits = self.classifier((features - self.mean) / self.scale)
        return self.weight * F.cross_entropy(logits, labels, reduction="none")
