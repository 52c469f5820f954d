"""What losses on pairs and triplets of images share: metric learning without a final layer."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from robustbench_pcl.losses.base import squared_distances
from robustbench_pcl.losses.tracked_centres import TrackedCentres


class MetricLoss(TrackedCentres):
    """A loss on the distances between the images of a batch, all pairs or triplets at once.

    The network ends without FC(K) and without cross-entropy (Section 6.3), so an image belongs to
    the class whose mean is nearest. During training the means are followed by Eq. 12-13; after it,
    :meth:`calibrate` sets them exactly.

    One variant of the printed equations: distances are measured in a unit, the root mean square
    distance between training images of different classes when the loss first acts. Layers differ
    a hundredfold in the size of their features, and one margin could not fit them all; in this
    unit a margin of 1 asks for the distance at which classes lie to begin with. Under
    FGSM on digits (eps 0.1, 20 epochs, one seed) margins of 1, 3 and 10 left 57, 72 and 77 %
    (contrastive) and 52, 57 and 56 % (triplet), all with 98 to 99 % of clean images right.

    Args:
        dimension: of the features, D.
        classes: number of classes, K.
        margin: m, in units of distance (contrastive) or of squared distance (triplet).
        alpha: rate at which the class means are followed.
        weight: factor on the loss.
    """

    with_cross_entropy: ClassVar[bool] = False
    scale: Tensor

    def __init__(
        self,
        dimension: int,
        classes: int,
        *,
        margin: float = 3.0,
        alpha: float = 0.5,
        weight: float = 1.0,
    ) -> None:
        super().__init__(dimension, classes, alpha)
        if not margin > 0:
            raise ValueError(f"margin is {margin}; it must be positive")
        self.margin, self.weight = margin, weight
        self.register_buffer("scale", torch.ones(()))

    def initialise(self, features: Tensor, labels: Tensor) -> None:
        """Put the centres on the class means and set the unit of distance."""
        super().initialise(features, labels)
        unit = distance_between_classes(features, labels, len(self.centres))
        with torch.no_grad():
            self.scale.copy_(unit.clamp_min(1e-6))

    def calibrate(self, features: Tensor, labels: Tensor) -> None:
        """Put the centres on the class means of all training images."""
        super().initialise(features, labels)

    def to_centres(self, features: Tensor) -> Tensor:
        """Squared distances (N, K) from features (N, D) to the centres, in squared units."""
        return squared_distances(features, self.centres.detach()) / self.scale.square()

    def between_images(self, features: Tensor) -> Tensor:
        """Squared distances (N, N) between features (N, D), in squared units."""
        return pairwise_squared_distances(features) / self.scale.square()


def pairwise_squared_distances(features: Tensor) -> Tensor:
    """Squared Euclidean distances (N, N) between all features (N, D).

    Through inner products, because differences would be N x N x D numbers. Around the batch's
    mean, so that what features have in common does not use up their digits.
    """
    centred = features - features.detach().mean(dim=0)
    lengths = centred.square().sum(dim=1)
    sums = lengths[:, None] + lengths
    return torch.addmm(sums, centred, centred.T, alpha=-2).clamp_min(0)


def distances(squared: Tensor) -> Tensor:
    """Square roots with a finite gradient: what rounding cannot tell from zero has none."""
    return squared.clamp_min(torch.finfo(squared.dtype).eps).sqrt()


def distance_between_classes(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Root mean square distance between two images of different classes; 0 if there are none.

    The squared distances between all of n points add up to 2 (n sum |f|^2 - |sum f|^2), here less
    the ones within each class.
    """
    centred = features - features.mean(dim=0)
    members = F.one_hot(labels, classes).to(features.dtype)
    counts, sums = members.sum(dim=0), members.T @ centred
    lengths = members.T @ centred.square().sum(dim=1)
    within = counts * lengths - sums.square().sum(dim=1)
    total = len(features) * lengths.sum() - within.sum()  # centred features add up to zero
    pairs = len(features) ** 2 - counts.square().sum()
    return (2 * total / pairs.clamp_min(1)).sqrt()
