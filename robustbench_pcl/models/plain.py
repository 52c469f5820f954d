"""Networks without shortcuts: Table 1's six layers for grey images, and VGG-19."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_pcl.models.classifier import Architecture, GlobalAveragePool, scaled

STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
"""Of VGG-19: channels, and convolutions before the pooling."""


def conv6(channels: int, classes: int, width: float) -> Architecture:
    """Table 1, left column: three pairs of 5x5 convolutions with PReLU, FC(512), FC(64), FC(K).

    The table's ``PReLu(2 x 2)`` is read as PReLU with one 2x2 max pooling for each pair, as in the
    network of Wen et al. that it cites: pooling after each of six convolutions would leave nothing
    of a 28x28 image. The global average pooling of layer 3 is drawn without brackets, so it is
    part of the trunk; the fully connected layers are drawn without a non-linearity.
    """
    third = scaled(128, width)
    pairs = [
        nn.Sequential(
            nn.Conv2d(inputs, outputs, 5, padding=2),
            PReLU(),
            nn.Conv2d(outputs, outputs, 5, padding=2),
            PReLU(),
            nn.MaxPool2d(2),
        )
        for inputs, outputs in pairwise((channels, scaled(32, width), scaled(64, width), third))
    ]
    wide, narrow = scaled(512, width), scaled(64, width)
    return Architecture(
        layers=(
            *pairs[:2],
            nn.Sequential(pairs[2], GlobalAveragePool()),
            nn.Linear(third, wide),
            nn.Linear(wide, narrow),
        ),
        head=nn.Linear(narrow, classes),
    )


class PReLU(nn.PReLU):
    """PyTorch's PReLU of one slope, to the same values, with a quick backward pass on the CPU.

    PyTorch's backward pass is not vectorised on the CPU and takes a quarter of a training step;
    leaky ReLU's is, but wants its slope as a number, which would wait for an accelerator, and
    gives it no gradient.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs above 0 as they are, others times the slope; any shape."""
        if inputs.device.type != "cpu":
            return super().forward(inputs)
        if not (self.weight.requires_grad and torch.is_grad_enabled()):
            return F.leaky_relu(inputs, self.weight.item())
        sloped: Tensor = _Sloped.apply(inputs, inputs, self.weight)
        return sloped


class _Sloped(torch.autograd.Function):
    """Values times the slope where inputs are not above 0: PReLU's forward and backward pass."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, inputs: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(values, inputs, slope)
        sloped: Tensor = _leaky(values, inputs, slope.item(), False)
        return sloped

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor | None]:
        values, inputs, slope = ctx.saved_tensors
        of_slope = None
        if ctx.needs_input_grad[2]:
            below = values - _leaky(values, inputs, 0.0, False)
            of_slope = (gradient * below).sum(dtype=slope.dtype).view_as(slope)
        return _Sloped.apply(gradient, inputs, slope), None, of_slope


_leaky = torch.ops.aten.leaky_relu_backward
"""(values, inputs, slope, False) -> values, times the slope where inputs are not above 0."""


def vgg19(channels: int, classes: int, width: float) -> Architecture:
    """VGG-19 (Simonyan and Zisserman 2015), the black-box source of Table 3, for small images.

    Configuration E with batch normalisation, global average pooling and one linear layer: the
    usual form for 32x32 images; the three large fully connected layers are for 224x224.
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
