"""Losses whose class centres follow the features: center, contrastive and triplet (Eq. 11-15)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_pcl.losses.criterion import FeatureLoss, class_means, squared_distances


class TrackedCentres(FeatureLoss):
    r"""Class centres c (K, D), not minimised over, but moved towards their class's features.

    After each batch (Eq. 12-13),

    .. math::

        c_j \leftarrow c_j - \alpha \frac{\sum_{i: y_i = j} (c_j - f_i)}{1 + n_j}

    with n_j the batch's images of class j, so that a class absent from it keeps its centre. A
    member writes its loss on ``centres.detach()``; :meth:`forward` then adds a term whose value is
    zero and whose gradient in the centres is the fraction above. Plain SGD at the rate alpha makes
    exactly the update, together with every other step and from the same features; a defence that
    applies the loss to clean and to adversarial images apart makes it once for each.

    The centres start at the class means.

    Args:
        dimension: of the features, D.
        classes: number of classes, K.
        alpha: share of the way, in (0, 1].
    """

    def __init__(self, dimension: int, classes: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.centres = nn.Parameter(torch.zeros(classes, dimension))

    def initialise(self, features: Tensor, labels: Tensor) -> None:
        """Put the centres on the class means."""
        with torch.no_grad():
            self.centres.copy_(class_means(features, labels, len(self.centres)))

    def anchors(self) -> Tensor:
        """The centres."""
        return self.centres

    def parameter_groups(
        self,
        learning_rate: float,  # noqa: ARG002 - alpha is the rate of Eq. 12
    ) -> list[dict[str, Any]]:
        """The centres at the rate alpha."""
        return [{"params": [self.centres], "lr": self.alpha}]

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The batch's loss, whose gradient in the centres is Eq. 13.

        In the centres' precision also under autocast, whose inner products of 8 bits would lose
        the distances within a class.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.centres.dtype)
            update = (self.centres * self._update(features.detach(), labels)).sum()
            return self.of_batch(features, labels) + (update - update.detach())

    def of_batch(self, features: Tensor, labels: Tensor) -> Tensor:
        """The value that the batch's features minimise, a scalar: the mean over images."""
        return self.per_image(features, labels).mean()

    def _update(self, features: Tensor, labels: Tensor) -> Tensor:
        """Eq. 13, (K, D)."""
        members = F.one_hot(labels, len(self.centres)).to(features.dtype)
        away = members.T @ (self.centres.detach()[labels] - features)
        return away / (1 + members.sum(dim=0))[:, None]


class CenterLoss(TrackedCentres):
    r"""Pull each feature to its class's centre (Eq. 11); cross-entropy keeps the classes apart.

    .. math::

        \frac{\lambda}{2} \| f - c_y \|_2^2

    in the features' own units, as printed. The centres follow by Eq. 12 and 13:

    .. math::

        c_j \leftarrow c_j - \alpha \frac{\sum_{i: y_i = j} (c_j - f_i)}{1 + n_j}

    Args:
        dimension: of the features, D.
        classes: number of classes, K.
        alpha: rate of the centres, Eq. 12.
        weight: lambda beside cross-entropy.
    """

    def __init__(self, dimension: int, classes: int, *, alpha: float, weight: float) -> None:
        super().__init__(dimension, classes, alpha)
        self.weight = weight

    def per_image(self, features: Tensor, labels: Tensor) -> Tensor:
        """Eq. 11 for each image, (N,)."""
        return self.weight / 2 * (features - self.centres.detach()[labels]).square().sum(dim=1)


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

    scale: Tensor

    def __init__(
        self,
        dimension: int,
        classes: int,
        *,
        margin: float,
        alpha: float,
        weight: float,
    ) -> None:
        super().__init__(dimension, classes, alpha)
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


class ContrastiveLoss(MetricLoss):
    r"""Pull images of a class together, push images of two classes a margin apart (Eq. 14).

    .. math::

        \frac{1}{2} y \| f_0 - f_1 \|_2^2
        + \frac{1}{2} (1 - y) \left( \max(0, m - \| f_0 - f_1 \|_2) \right)^2

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


class TripletLoss(MetricLoss):
    r"""Bring an anchor closer to an image of its class than to one of another class (Eq. 15).

    .. math::

        \max \left( 0, m + \| f_a - f_p \|_2^2 - \| f_a - f_n \|_2^2 \right)

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
