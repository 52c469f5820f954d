"""Losses whose class centres follow the features by the update of Eq. 12-13."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_pcl.losses.base import FeatureLoss, class_means


class TrackedCentres(FeatureLoss):
    """Class centres c (K, D) that are not minimised over, but moved towards their class's features.

    After each batch (Eq. 12-13),

        c_j <- c_j - alpha * sum_{i: y_i = j} (c_j - f_i) / (1 + n_j)

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
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha is {alpha}; it must be above 0 and at most 1")
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
