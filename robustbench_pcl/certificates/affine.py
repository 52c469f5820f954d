"""Operations that are linear but for a bias: convolutions, normalisations, averages and sums."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from robustbench_pcl.certificates.operations import Box, Operation, channelwise
from robustbench_pcl.models.classifier import Normalise
from robustbench_pcl.models.shares import pooled


class Affine(Operation):
    """A linear map with a bias. What a member does to a box's radius is its weights' absolutes'."""

    @abstractmethod
    def apply(self, *inputs: Tensor) -> Tensor:
        """The outputs (N, ...)."""

    def absolute(self, *inputs: Tensor) -> Tensor:
        """The outputs with absolute weights and no bias; by default weights are positive already.

        Args:
            inputs: (N, ...), at least 0.
        """
        return self.apply(*inputs)

    def offset(self) -> Tensor | float:
        """The bias's sum of absolute terms, to be added to the outputs."""
        return 0.0

    def box(self, *inputs: Box) -> Box:
        """Exactly the range of each output."""
        centre = self.apply(*(each.centre for each in inputs))
        return Box(centre, self.absolute(*(each.radius for each in inputs)))

    def magnitude(self, *inputs: Box) -> Tensor:
        """With absolute weights, inputs and bias."""
        return self.absolute(*(each.magnitude for each in inputs)) + self.offset()

    def backward(self, rows: Tensor, *inputs: Box) -> tuple[tuple[Tensor, ...], Tensor]:
        """Exactly the same sums: coefficients through the transposed map."""
        bias = self.apply(*(torch.zeros_like(each.centre[:1]) for each in inputs))
        shapes = [each.centre.shape[1:] for each in inputs]
        found = self.transposed(rows.flatten(0, 1), shapes)
        parted = tuple(each.view(*rows.shape[:2], *each.shape[1:]) for each in found)
        return parted, (rows * bias).flatten(2).sum(dim=2)

    def transposed(self, rows: Tensor, shapes: list[torch.Size]) -> tuple[Tensor, ...]:
        """The transposed linear map of rows (M, ...), for each input: the derivative in it."""
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            inputs = [rows.new_zeros((len(rows), *shape), requires_grad=True) for shape in shapes]
            outputs = self.apply(*inputs)
            return torch.autograd.grad(outputs, inputs, rows, create_graph=differentiable)


class Convolution(Affine):
    """A two-dimensional convolution whose padding is a number of zeros."""

    def __init__(self, module: nn.Conv2d) -> None:
        self.module = module

    def apply(self, *inputs: Tensor) -> Tensor:
        """The module itself, without its hooks."""
        return self.module.forward(*inputs)

    def absolute(self, *inputs: Tensor) -> Tensor:
        """With absolute weights."""
        return F.conv2d(inputs[0], self.module.weight.abs(), None, *self._geometry())

    def offset(self) -> Tensor | float:
        """The absolute bias of each channel."""
        bias = self.module.bias
        return 0.0 if bias is None else bias.abs()[:, None, None]

    def terms(self, *inputs: Box) -> int:  # noqa: ARG002 - the same for all
        """The window's inputs, and the bias."""
        return self.module.weight[0].numel() + 2

    def transposed(self, rows: Tensor, shapes: list[torch.Size]) -> tuple[Tensor, ...]:
        """Without a pass forward."""
        shape, weight = (len(rows), *shapes[0]), self.module.weight
        found: Tensor = conv2d_input(shape, weight, rows, *self._geometry())  # type: ignore[no-untyped-call]
        return (found,)

    def _geometry(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
        module = self.module
        padding = cast("tuple[int, ...]", module.padding)
        return module.stride, padding, module.dilation, module.groups


class FullyConnected(Affine):
    """A matrix and a bias.

    Args:
        module: it.
    """

    def __init__(self, module: nn.Linear) -> None:
        self.module = module

    def apply(self, *inputs: Tensor) -> Tensor:
        """The module itself, without its hooks."""
        return self.module.forward(*inputs)

    def absolute(self, *inputs: Tensor) -> Tensor:
        """With absolute weights."""
        return F.linear(inputs[0], self.module.weight.abs())

    def offset(self) -> Tensor | float:
        """The absolute bias."""
        return 0.0 if self.module.bias is None else self.module.bias.abs()

    def terms(self, *inputs: Box) -> int:  # noqa: ARG002 - the same for all
        """A row of the matrix, and the bias."""
        return self.module.in_features + 2

    def transposed(self, rows: Tensor, shapes: list[torch.Size]) -> tuple[Tensor, ...]:  # noqa: ARG002
        """Without a pass forward."""
        return (rows @ self.module.weight,)


class Anchors(Affine):
    """Eq. 7's logits, -s |f - a_k|^2, less what is the same for all classes, -s |f|^2.

    What is left is linear in the features f, and the differences of two logits are the same.

    Args:
        points: float64 (K, D), the points a_k that stand for the classes.
        sharpness: s.
    """

    def __init__(self, points: Tensor, sharpness: Tensor) -> None:
        self._weight = 2 * sharpness * points
        self._bias = -sharpness * points.square().sum(dim=1)
        # The model subtracts the points' mean from both, squares, and sums up.
        self._largest = points.abs() + 2 * points.mean(dim=0).abs()
        self._sharpness = sharpness

    def apply(self, *inputs: Tensor) -> Tensor:
        """Of features (N, D)."""
        return F.linear(inputs[0], self._weight, self._bias)

    def absolute(self, *inputs: Tensor) -> Tensor:
        """With absolute points."""
        return F.linear(inputs[0], self._weight.abs())

    def magnitude(self, *inputs: Box) -> Tensor:
        """Of the squares, which the model sums up."""
        apart = inputs[0].magnitude[:, None] + self._largest
        return self._sharpness * apart.square().sum(dim=2)

    def terms(self, *inputs: Box) -> int:  # noqa: ARG002 - the same for all
        """Of the sum, and of s, which is a sum over all points."""
        return self._weight.numel() + 16


class Scaling(Affine):
    """A factor and a shift of each channel."""

    @abstractmethod
    def factor_and_shift(self) -> tuple[Tensor, Tensor, Tensor]:
        """The factors (C,), the shifts (C,), and the shifts' sums of absolute terms (C,)."""

    def apply(self, *inputs: Tensor) -> Tensor:
        """Inputs times the factor, and the shift."""
        factor, shift, _ = self.factor_and_shift()
        return inputs[0] * channelwise(factor, inputs[0]) + channelwise(shift, inputs[0])

    def absolute(self, *inputs: Tensor) -> Tensor:
        """Inputs times the absolute factor."""
        return inputs[0] * channelwise(self.factor_and_shift()[0].abs(), inputs[0])

    def magnitude(self, *inputs: Box) -> Tensor:
        """With absolute factors, inputs and shifts."""
        output = self.absolute(inputs[0].magnitude)
        return output + channelwise(self.factor_and_shift()[2], output)

    def terms(self, *inputs: Box) -> int:  # noqa: ARG002 - the same for all
        """Eight at most, of the factor, the shift and the output; twice that, to be sure."""
        return 16


class Normalisation(Scaling):
    """Pixels less their mean, divided by their standard deviation."""

    def __init__(self, module: Normalise) -> None:
        self.module = module

    def factor_and_shift(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each channel, or one for all."""
        factor = 1 / self.module.std.flatten()
        shift = self.module.mean.flatten() * factor
        return factor, -shift, shift.abs()


class BatchNormalisation(Scaling):
    """Batch normalisation with its running statistics, or those of a batch.

    Attributes:
        statistics: mean (C,) and variance (C,) of a batch; None for the running ones.
    """

    def __init__(self, module: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        self.module = module
        self.statistics: tuple[Tensor, Tensor] | None = None

    @contextmanager
    def statistics_of_next_batch(self) -> Iterator[None]:
        """While this lasts, those of the batch that the module is given are taken."""

        def take(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            values = given[0].to(self.module.weight.dtype).transpose(0, 1).flatten(1)
            self.statistics = pooled(values.mean(dim=1), values.var(dim=1, correction=0))

        hook = self.module.register_forward_pre_hook(take)
        try:
            yield
        finally:
            hook.remove()
            self.statistics = None

    def factor_and_shift(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each channel."""
        module = self.module
        running = (cast("Tensor", module.running_mean), cast("Tensor", module.running_var))
        mean, variance = self.statistics or running
        factor = (variance + module.eps).rsqrt()
        factor, bias = (
            (factor * module.weight, module.bias) if module.affine else (factor, 0 * mean)
        )
        return factor, bias - mean * factor, bias.abs() + (mean * factor).abs()


class Averaging(Affine):
    """Average pooling of any kind: a module whose weights are all positive."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def apply(self, *inputs: Tensor) -> Tensor:
        """The module itself, without its hooks."""
        output: Tensor = self.module.forward(*inputs)
        return output

    def terms(self, *inputs: Box) -> int:
        """All positions, and the division."""
        return math.prod(inputs[0].centre.shape[2:]) + 2


class Reshaping(Affine):
    """Each image's numbers in another shape.

    Args:
        shape: of one image's; -1 for what is left.
    """

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def apply(self, *inputs: Tensor) -> Tensor:
        """The same numbers."""
        return inputs[0].reshape(len(inputs[0]), *self.shape)

    def terms(self, *inputs: Box) -> int:  # noqa: ARG002 - the same for all
        """None."""
        return 0


class Sum(Affine):
    """The sum of two values of one shape, as behind a residual block."""

    def apply(self, *inputs: Tensor) -> Tensor:
        """One and the other."""
        return inputs[0] + inputs[1]

    def terms(self, *inputs: Box) -> int:  # noqa: ARG002 - the same for all
        """One."""
        return 1
