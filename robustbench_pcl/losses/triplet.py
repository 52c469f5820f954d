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

        Over the list of positive pairs rather than all N^3 triplets, K times as many.
        """
        squared, different = self.between_images(features), labels[:, None] != labels
        alike = ~different & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        anchors, positives = torch.nonzero(alike, as_tuple=True)
        # Infinitely far away, an image of the anchor's own class is no negative.
        to_negatives = squared.masked_fill(~different, torch.inf)
        hinges = F.relu(self.margin + squared[anchors, positives][:, None] - to_negatives[anchors])
        count = different.sum(dim=1)[anchors].sum()
        return self.weight * hinges.sum() / count.clamp_min(1)
