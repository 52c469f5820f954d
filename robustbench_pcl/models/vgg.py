"""VGG-19 (Simonyan and Zisserman 2015) for small images: the black-box source of Table 3."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from robustbench_pcl.models.classifier import Architecture, GlobalAveragePool, scaled

STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))


def vgg19(channels: int, classes: int, width: float) -> Architecture:
    """Configuration E with batch normalisation, global average pooling and one linear layer.

    The usual form for 32x32 images; the three large fully connected layers are for 224x224.
    Poolings round up, so that images smaller than 32x32 keep at least one position.
    """
    counts = [channels, *(scaled(count, width) for count, _ in STAGES)]
    stages = [
        _stage(inputs, outputs, depth)
        for (inputs, outputs), (_, depth) in zip(pairwise(counts), STAGES, strict=True)
    ]
    stages[-1] = nn.Sequential(stages[-1], GlobalAveragePool())
    return Architecture(layers=stages, head=nn.Linear(counts[-1], classes))


def _stage(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    modules: list[nn.Module] = []
    for index in range(depth):
        modules += [
            nn.Conv2d(inputs if index == 0 else outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*modules, nn.MaxPool2d(2, ceil_mode=True))
