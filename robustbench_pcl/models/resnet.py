"""The bottleneck residual networks of Table 1, for colour images."""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import Bottleneck

from robustbench_pcl.models.classifier import Architecture, GlobalAveragePool, scaled


def resnet110(channels: int, classes: int, width: float) -> Architecture:
    """Table 1, right column: 12 bottleneck blocks in each stage, auxiliary FC(512) after stage 3.

    The table's ``ReLU(2 x 2)`` is read as ReLU with 2x2 max pooling, as in its left column. Layer
    4's global average pooling and FC(1024) are the trunk's; FC(1024) has no non-linearity.
    """
    return _resnet(12, channels, classes, width, pooled_stem=True)


def resnet20(channels: int, classes: int, width: float) -> Architecture:
    """ResNet-110's family with 2 bottleneck blocks in each stage, for quick runs without a GPU."""
    return _resnet(2, channels, classes, width, pooled_stem=True)


def resnet164(channels: int, classes: int, width: float) -> Architecture:
    """What the authors' published code builds when asked for depth 110.

    18 bottleneck blocks in each stage (164 layers), no pooling in the stem.
    """
    return _resnet(18, channels, classes, width, pooled_stem=False)


def _resnet(
    blocks: int, channels: int, classes: int, width: float, *, pooled_stem: bool
) -> Architecture:
    stem, narrow, middle, wide = (scaled(count, width) for count in (16, 16, 32, 64))
    embedding, branch = scaled(1024, width), scaled(512, width)
    pool = [nn.MaxPool2d(2)] if pooled_stem else []
    expansion = Bottleneck.expansion
    return Architecture(
        layers=(
            nn.Sequential(
                nn.Conv2d(channels, stem, 3, padding=1, bias=False),
                nn.BatchNorm2d(stem),
                nn.ReLU(inplace=True),
                *pool,
            ),
            _stage(blocks, stem, narrow, stride=1),
            _stage(blocks, narrow * expansion, middle, stride=2),
            nn.Sequential(_stage(blocks, middle * expansion, wide, stride=2), GlobalAveragePool()),
            nn.Linear(wide * expansion, embedding),
        ),
        head=nn.Linear(embedding, classes),
        branches={
            3: nn.Sequential(GlobalAveragePool(), nn.Linear(middle * expansion, branch)),
        },
    )


def _stage(blocks: int, inputs: int, planes: int, *, stride: int) -> nn.Sequential:
    outputs = planes * Bottleneck.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )
    first = Bottleneck(inputs, planes, stride, shortcut)
    return nn.Sequential(first, *(Bottleneck(outputs, planes) for _ in range(blocks - 1)))
