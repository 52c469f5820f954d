"""The center loss of Wen et al. (2016), Eq. 11-13."""

from __future__ import annotations

from torch import Tensor

from robustbench_pcl.losses.tracked_centres import TrackedCentres


class CenterLoss(TrackedCentres):
    """Pull each feature to its class's centre (Eq. 11); cross-entropy keeps the classes apart.

        lambda/2 |f - c_y|^2

    in the features' own units, as printed. The centres follow by Eq. 12-13.

    Args:
        dimension: of the features, D.
        classes: number of classes, K.
        alpha: rate of the centres, Eq. 12; 0.5 as in Wen et al.
        weight: lambda beside cross-entropy; 0.003 as in Wen et al.
    """

    def __init__(
        self, dimension: int, classes: int, *, alpha: float = 0.5, weight: float = 0.003
    ) -> None:
        super().__init__(dimension, classes, alpha)
        self.weight = weight

    def per_image(self, features: Tensor, labels: Tensor) -> Tensor:
        """Eq. 11 for each image, (N,)."""
        return self.weight / 2 * (features - self.centres.detach()[labels]).square().sum(dim=1)
