"""PReLU with a quick backward pass on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class PReLU(nn.PReLU):
    """PyTorch's PReLU of one slope, to the same values.

    PyTorch's backward pass is not vectorised on the CPU and takes a quarter of a training step;
    leaky ReLU's is, but wants its slope as a number, which would wait for an accelerator.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs above 0 as they are, others times the slope; any shape."""
        if inputs.device.type != "cpu":
            return super().forward(inputs)
        sloped: Tensor = _Sloped.apply(inputs, inputs, self.weight)
        return sloped


class _Sloped(torch.autograd.Function):
    """Values times the slope where inputs are not above 0: PReLU's forward and backward pass."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, inputs: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(values, inputs, slope)
        return _leaky(values, inputs, slope.item())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor | None]:
        values, inputs, slope = ctx.saved_tensors
        of_slope = None
        if ctx.needs_input_grad[2]:
            below = values - _leaky(values, inputs, 0.0)
            of_slope = (gradient * below).sum(dtype=slope.dtype).view_as(slope)
        return _Sloped.apply(gradient, inputs, slope), None, of_slope


def _leaky(values: Tensor, inputs: Tensor, slope: float) -> Tensor:
    product: Tensor = torch.ops.aten.leaky_relu_backward(values, inputs, slope, False)
    return product
