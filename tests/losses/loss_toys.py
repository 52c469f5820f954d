"""Losses and features to try them on."""

import torch
from torch import Tensor

from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES
from robustbench_pcl.losses.base import FeatureLoss
from robustbench_pcl.losses.metric import MetricLoss
from robustbench_pcl.losses.tracked_centres import TrackedCentres

CLASSES, DIMENSION, COUNT = 5, 4, 12
ON_FEATURES = [name for name in LOSSES if name != CROSS_ENTROPY]
ON_PAIRS = [name for name in ON_FEATURES if issubclass(LOSSES[name], MetricLoss)]
"""Their batch's loss is over pairs or triplets of its images, not over its images one by one."""
ON_IMAGES = [name for name in ON_FEATURES if name not in ON_PAIRS]
TRACKED = [name for name in ON_FEATURES if issubclass(LOSSES[name], TrackedCentres)]
"""Their centres move by Eq. 13, which is not the derivative of their value."""
MINIMISED = [name for name in ON_FEATURES if name not in TRACKED]
WITHOUT_ANCHORS = ["deep-softmax"]
ANCHORED = [name for name in ON_FEATURES if name not in WITHOUT_ANCHORS]


def batch(count: int = COUNT, size: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    features = size * torch.randn((count, DIMENSION), generator=source, dtype=torch.float64)
    return features, torch.arange(count) % CLASSES


def placed(name: str, size: float = 1.0, **parameters: object) -> FeatureLoss:
    """A loss in float64 with its own parameters anywhere."""
    loss = LOSSES[name](DIMENSION, CLASSES, **parameters).double()
    source = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in loss.parameters():
            value.copy_(size * torch.randn(value.shape, generator=source, dtype=value.dtype))
    return loss


def square(vector: Tensor) -> float:
    return sum(entry**2 for entry in vector.tolist())
