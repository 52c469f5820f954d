"""The contrastive loss of Hadsell et al. (2006), Eq. 14."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_pcl.losses.metric import MetricLoss, distances


class ContrastiveLoss(MetricLoss):
    """Pull images of a class together, push images of two classes a margin apart (Eq. 14).

        1/2 y |f_0 - f_1|^2 + 1/2 (1 - y) max(0, m - |f_0 - f_1|)^2

    with y = 1 for two images of one class, in the mean over all pairs of a batch.

    Args:
        dimension: of the features, D.
        classes: number of classes, K.
        margin: m, in units of the distance between classes at the start.
        alpha: rate at which the class means are followed.
        weight: factor on the loss.
    """

    def per_image(self, features: Tensor, labels: Tensor) -> Tensor:
        """Eq. 14 of each image paired with every class's centre, the mean over them, (N,)."""
        same = F.one_hot(labels, len(self.centres)).bool()
        return self.weight * self._pairs(self.to_centres(features), same).mean(dim=1)

    def of_batch(self, features: Tensor, labels: Tensor) -> Tensor:
        """The mean of Eq. 14 over all pairs of two images; 0 for a single image."""
        count = len(features)
        # Both orders of a pair count; an image and itself, at distance 0 in one class, add nothing.
        pairs = self._pairs(self.between_images(features), labels[:, None] == labels)
        return self.weight * pairs.sum() / max(1, count * (count - 1))

    def _pairs(self, squared: Tensor, same: Tensor) -> Tensor:
        """Eq. 14 of pairs at squared distances (N, M) that are of the same class or not."""
        return torch.where(same, squared, F.relu(self.margin - distances(squared)).square()) / 2
