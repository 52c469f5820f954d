"""Operations that can be bounded: boxes through them, linear bounds back; those with a bend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Box:
    """All values within a radius of a centre, one row per image.

    Attributes:
        centre: (N, ...).
        radius: of the same shape, at least 0.
    """

    centre: Tensor
    radius: Tensor

    @classmethod
    def between(cls, lower: Tensor, upper: Tensor) -> Box:
        """The box with these ends."""
        return cls((lower + upper) / 2, (upper - lower) / 2)

    @property
    def lower(self) -> Tensor:
        """The lower ends."""
        return self.centre - self.radius

    @property
    def upper(self) -> Tensor:
        """The upper ends."""
        return self.centre + self.radius

    @property
    def magnitude(self) -> Tensor:
        """The largest absolute values inside."""
        return self.centre.abs() + self.radius

    @property
    def size(self) -> int:
        """Numbers of one image."""
        return self.centre[0].numel()


class Operation(ABC):
    """Values, one row per image, from other values.

    Everything is said in exact arithmetic; what rounding adds is the caller's.
    """

    @abstractmethod
    def box(self, *inputs: Box) -> Box:
        """A box around all outputs of inputs in these boxes; it can be differentiated."""

    @abstractmethod
    def magnitude(self, *inputs: Box) -> Tensor:
        """The largest sum of absolute terms that an output is made of."""

    @abstractmethod
    def terms(self, *inputs: Box) -> int:
        """How many roundings a model's output goes through, in any order of its sums, at most."""

    @abstractmethod
    def backward(self, rows: Tensor, *inputs: Box) -> tuple[tuple[Tensor, ...], Tensor]:
        """Lower bounds that are linear in the inputs, of sums that are linear in the outputs.

        Args:
            rows: (R, N, ...), the coefficients of R sums for each image.
            inputs: in which they lie.

        Returns:
            The coefficients of each input, (R, N, ...), and the constants (R, N).
        """


def channelwise(values: Tensor, like: Tensor) -> Tensor:
    """Numbers of each channel (C,), or one for all, so that they fit (N, C, ...)."""
    return values.view(-1, *(1 for _ in like.shape[2:]))


class Rectifier(Operation):
    """Values above 0 as they are, others times a slope: ReLU, leaky ReLU and PReLU.

    Below a slope of 1 it is convex, so the chord between the ends of a box is above it, and every
    line through 0 with a slope between both is below it; above 1 it is the other way round. Of
    those lines the one is taken that has the smaller area to it (CROWN's adaptive choice, Zhang et
    al. 2018, Section 3.3).

    Args:
        slope: a number, or the module whose ``weight`` has one for all channels or for each.
    """

    def __init__(self, slope: float | nn.PReLU) -> None:
        self.slope = slope

    def _slope(self, like: Tensor) -> Tensor:
        """The slopes, so that they fit (N, C, ...)."""
        if isinstance(self.slope, nn.PReLU):
            return channelwise(self.slope.weight, like)
        return like.new_tensor(self.slope)

    def box(self, *inputs: Box) -> Box:
        """Exactly the range of each output."""
        low, high = inputs[0].lower, inputs[0].upper
        slope = self._slope(low)
        ends = [end.clamp_min(0) + slope * end.clamp_max(0) for end in (low, high)]
        lower, upper = torch.minimum(*ends), torch.maximum(*ends)
        if bool((slope < 0).any()):  # 0 is between the ends, and its output below both
            lower = torch.where((low < 0) & (high > 0), lower.clamp_max(0), lower)
        return Box.between(lower, upper)

    def magnitude(self, *inputs: Box) -> Tensor:
        """Of the output and of the chord's intercept."""
        magnitude = inputs[0].magnitude
        return 2 * self._slope(magnitude).abs().clamp_min(1) * magnitude

    def terms(self, *inputs: Box) -> int:  # noqa: ARG002 - the same for all
        """One, where it is multiplied."""
        return 1

    def unstable(self, given: Box) -> Tensor:
        """Boolean (N, ...): which may be above and below 0."""
        return (given.lower < 0) & (given.upper > 0)

    def backward(self, rows: Tensor, *inputs: Box) -> tuple[tuple[Tensor, ...], Tensor]:
        """A line below where a coefficient is positive, a line above where it is negative."""
        low, high = inputs[0].lower, inputs[0].upper
        slope, unstable = self._slope(low), self.unstable(inputs[0])
        width = torch.where(unstable, high - low, 1.0)
        chord = (high - slope * low) / width
        through_zero = torch.where(high > -low, 1.0, slope)
        intercept = torch.where(unstable, high - chord * high, 0.0)
        stable = torch.where(low >= 0, 1.0, slope)
        convex = slope <= 1
        below = torch.where(unstable, torch.where(convex, through_zero, chord), stable)
        above = torch.where(unstable, torch.where(convex, chord, through_zero), stable)
        positive, negative = rows.clamp_min(0), rows.clamp_max(0)
        on_intercept = torch.where(convex, negative, positive)
        return (positive * below + negative * above,), (on_intercept * intercept).flatten(2).sum(2)


class MaxPooling(Operation):
    """The largest value of each window.

    It is at least any of them: the one is taken whose lower end is the largest. Where no other can
    be larger, it is that one; elsewhere it is at most the largest upper end.
    """

    def __init__(self, module: nn.MaxPool2d) -> None:
        self.module = module

    def box(self, *inputs: Box) -> Box:
        """Exactly the range of each output."""
        lower, upper = (self._pooled(end)[0] for end in (inputs[0].lower, inputs[0].upper))
        return Box.between(lower, upper)

    def magnitude(self, *inputs: Box) -> Tensor:
        """The largest of the window."""
        return self._pooled(inputs[0].magnitude)[0]

    def terms(self, *inputs: Box) -> int:  # noqa: ARG002 - the same for all
        """None."""
        return 0

    def backward(self, rows: Tensor, *inputs: Box) -> tuple[tuple[Tensor, ...], Tensor]:
        """Below, an input; above, the same one or a constant."""
        lower, index = self._pooled(inputs[0].lower)
        upper = inputs[0].upper
        constant, where = self._pooled(upper)[0], index.flatten(2)
        surely = torch.zeros_like(lower, dtype=torch.bool)
        if self._apart():
            others = upper.flatten(2).scatter(2, where, -torch.inf).view_as(upper)
            surely = self._pooled(others)[0] <= lower
        negative = rows.clamp_max(0)
        chosen = torch.where(surely, rows, rows.clamp_min(0))
        found = rows.new_zeros(*rows.shape[:2], *upper.shape[1:]).flatten(3)
        places = where.expand(len(rows), *where.shape)
        found = found.scatter_add(3, places, chosen.flatten(3))
        constants = (negative * constant.masked_fill(surely, 0)).flatten(2).sum(dim=2)
        return (found.view(*rows.shape[:2], *upper.shape[1:]),), constants

    def _pooled(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The largest of each window, and where it is in (height x width)."""
        module = self.module
        geometry = (module.kernel_size, module.stride, module.padding, module.dilation)
        kernel, stride, padding, dilation = map(_pair, geometry)
        return F.max_pool2d_with_indices(
            values, kernel, stride, padding, dilation, module.ceil_mode
        )

    def _apart(self) -> bool:
        """No input is in two windows."""
        module = self.module
        sizes = zip(*map(_pair, (module.kernel_size, module.stride, module.dilation)), strict=True)
        return all((kernel - 1) * dilation < stride for kernel, stride, dilation in sizes)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
