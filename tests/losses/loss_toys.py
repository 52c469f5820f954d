"""Losses and features to try them on."""

import torch
from torch import Tensor, nn

from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES
from robustbench_pcl.losses.criterion import Criterion, FeatureLoss
from robustbench_pcl.losses.metric import TrackedCentres

CLASSES, DIMENSION, COUNT = 5, 4, 12


def built(name: str, dimension: int = DIMENSION, **parameters: object) -> FeatureLoss:
    return LOSSES.configure(name, parameters).build(dimension, CLASSES)


ON_FEATURES = [name for name in LOSSES if name != CROSS_ENTROPY]
ON_PAIRS = [name for name in ON_FEATURES if not LOSSES[name].with_cross_entropy]
"""Their batch's loss is over pairs or triplets of its images, not over its images one by one."""
ON_IMAGES = [name for name in ON_FEATURES if name not in ON_PAIRS]
TRACKED = [name for name in ON_FEATURES if isinstance(built(name), TrackedCentres)]
"""Their centres move by Eq. 13, which is not the derivative of their value."""
MINIMISED = [name for name in ON_FEATURES if name not in TRACKED]
ANCHORED = [name for name in ON_FEATURES if LOSSES[name].has_anchors]


def batch(count: int = COUNT, size: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    features = size * torch.randn((count, DIMENSION), generator=source, dtype=torch.float64)
    return features, torch.arange(count) % CLASSES


def placed(name: str, size: float = 1.0, **parameters: object) -> FeatureLoss:
    """A loss in float64 with its own parameters anywhere."""
    loss = built(name, **parameters).double()
    source = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in loss.parameters():
            value.copy_(size * torch.randn(value.shape, generator=source, dtype=value.dtype))
    return loss


def criterion_of(name: str, losses: dict[int, FeatureLoss]) -> Criterion:
    criterion = Criterion({"name": name}, {}, CLASSES)
    criterion.losses = nn.ModuleDict({str(layer): loss for layer, loss in losses.items()})
    return criterion


def square(vector: Tensor) -> float:
    return sum(entry**2 for entry in vector.tolist())
