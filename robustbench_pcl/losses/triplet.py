"""The triplet loss of Schroff et al. (2015), Eq. 15."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_pcl.losses.metric import MetricLoss


class TripletLoss(MetricLoss):
    """Bring an anchor closer to an image of its class than to one of another class (Eq. 15).

        max(0, m + |f_a - f_p|^2 - |f_a - f_n|^2)

    in the mean over all triplets of a batch: every image as the anchor a, with every other image
    of its class as the positive p and every image of the other classes as the negative n.

    Args:
        dimension: of the features, D.
        classes: number of classes, K.
        margin: m, in units of the squared distance between classes at the start.
        alpha: rate at which the class means are followed.
        weight: factor on the loss.
    """

    def per_image(self, features: Tensor, labels: Tensor) -> Tensor:
        """Eq. 15 of each image as the anchor, its class's centre and each other one, (N,)."""
        squared, own = self.to_centres(features), labels[:, None]
        hinges = F.relu(self.margin + squared.gather(1, own) - squared).scatter(1, own, 0)
        return self.weight * hinges.sum(dim=1) / (len(self.centres) - 1)

    def of_batch(self, features: Tensor, labels: Tensor) -> Tensor:
        """The mean of Eq. 15 over all triplets; 0 for a batch without any.

        The hinges above zero are m + |f_a - f_p|^2 - |f_a - f_n|^2, so their sum is one over pairs,
        each distance as often as it occurs; an anchor's distances in order tell how often.
        """
        squared, different = self.between_images(features), labels[:, None] != labels
        with torch.no_grad():
            alike = (~different).fill_diagonal_(False)
            order = (squared + self.margin * alike).argsort(dim=1)
            positive, negative = alike.gather(1, order), different.gather(1, order)
            nearer = positive * negative.cumsum(dim=1)
            further = negative * (positive.sum(dim=1, keepdim=True) - positive.cumsum(dim=1))
            times = torch.empty_like(order).scatter(1, order, nearer - further)
            count = (alike.sum(dim=1) * different.sum(dim=1)).sum()
        # In float64, because the terms are larger than what is left of them.
        hinges = (times * squared.double()).sum() + self.margin * nearer.sum()
        return (self.weight * hinges / count.clamp_min(1)).to(squared.dtype)
