"""The six-layer network of Table 1, for grey images."""

from __future__ import annotations

from torch import nn

from robustbench_pcl.models.classifier import Architecture, GlobalAveragePool, scaled
from robustbench_pcl.models.prelu import PReLU


def conv6(channels: int, classes: int, width: float) -> Architecture:
    """Table 1, left column: three pairs of 5x5 convolutions with PReLU, FC(512), FC(64), FC(K).

    The table's ``PReLu(2 x 2)`` is read as PReLU with one 2x2 max pooling a pair, as in the
    network of Wen et al. that it cites: pooling after each of six convolutions would leave nothing
    of a 28x28 image. The global average pooling of layer 3 is drawn without brackets, so it is
    part of the trunk; the fully connected layers are drawn without a non-linearity.
    """
    first, second, third = (scaled(count, width) for count in (32, 64, 128))
    wide, narrow = scaled(512, width), scaled(64, width)
    return Architecture(
        layers=(
            _pair(channels, first),
            _pair(first, second),
            nn.Sequential(_pair(second, third), GlobalAveragePool()),
            nn.Linear(third, wide),
            nn.Linear(wide, narrow),
        ),
        head=nn.Linear(narrow, classes),
    )


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 5, padding=2),
        PReLU(),
        nn.Conv2d(outputs, outputs, 5, padding=2),
        PReLU(),
        nn.MaxPool2d(2),
    )
