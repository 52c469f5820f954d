"""Bounds of what a model answers, sound in floating point: intervals, and one backward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustbench_pcl.certificates.network import Network
from robustbench_pcl.certificates.operations import Box

UNIT = 2.0**-53
"""A float64 rounding is at most so much of the result: bounds are computed in float64."""
FURTHER = 4096
"""More roundings than the additions of a backward pass through any network have."""


@dataclass(frozen=True)
class Rounding:
    """How far a model's own arithmetic, and that of the bounds, may be from exact arithmetic.

    A sum of n products that is computed in any order is off by at most n u / (1 - n u) times the
    sum M of their absolute values, u being the unit of the arithmetic (Higham 2002, Section 3.1),
    and by n times the smallest normal number where something underflows. That holds for a layer's
    output as the model computes it, of its input as the model computed it. So if each layer's box
    is made wider by that much, all that the model computes lies inside.

    Bounds are computed in float64, where the same holds with u = 2^-53 and no more additions than
    there are inputs and outputs. Four such errors are added: of a box's centre, its radius, M, and
    in the backward pass the coefficients, whose errors are at most that share of a layer's M too.

    Attributes:
        unit: u of the model's arithmetic: 2^-24 for float32.
        tiny: its smallest normal number.
        largest: its largest number; what may be beyond has no bounds.
    """

    unit: float
    tiny: float
    largest: float

    def error(self, magnitude: Tensor, terms: int, size: int) -> Tensor:
        """How far a layer's outputs may be off, at most; of M's shape.

        Args:
            magnitude: M of each output.
            terms: n of each output.
            size: inputs and outputs of one image.
        """
        model, own = (count * unit for count, unit in ((terms, self.unit), (size + FURTHER, UNIT)))
        if model >= 0.5:
            return torch.full_like(magnitude, torch.inf)
        share = model / (1 - model) + 4 * own / (1 - own)
        error = 1.001 * (share * magnitude + (terms + 1) * self.tiny)
        return error.masked_fill(~(magnitude < self.largest / 2), torch.inf)


@dataclass(frozen=True)
class Bounds:
    """Interval bounds of everything that a model computes of some images.

    Attributes:
        network: the model, in float64.
        values: a box for the images, and for each layer's output as the model computes it.
        errors: by how much rounding has made each of these wider, (N, ...).
    """

    network: Network
    values: list[Box]
    errors: list[Tensor]


def interval_bounds(network: Network, images: Box, rounding: Rounding) -> Bounds:
    """Bounds by interval arithmetic (Gowal et al. 2018, Section 3).

    Args:
        network: in float64.
        images: float64 (N, C, H, W).
        rounding: of the model.
    """
    values, errors = [images], [torch.zeros_like(images.radius)]
    for layer in network.layers:
        inputs = [values[index] for index in layer.inputs]
        exact = layer.operation.box(*inputs)
        size = exact.size + sum(each.size for each in inputs)
        magnitude = layer.operation.magnitude(*inputs)
        errors.append(rounding.error(magnitude, layer.operation.terms(*inputs), size))
        values.append(Box(exact.centre, exact.radius + errors[-1]))
    return Bounds(network, values, errors)


def margins(bounds: Bounds, labels: Tensor, back_to: int = 0) -> Tensor:
    """Lower bounds (N, K - 1) of the label's logit less each other one, as the model computes them.

    CROWN (Zhang et al. 2018) with the interval bounds for the layers between: linear bounds of the
    margins, from the logits back to the pixels. At every value through which all paths lead they
    are bounds already, by its box; the best of them counts, so that this is never worse than
    interval bounds.

    Args:
        bounds: of the images.
        labels: int64 (N,).
        back_to: the value from which they are linear bounds; 0 for the pixels.
    """
    rows = _differences(bounds.values[-1].centre, labels)
    waiting = {len(bounds.values) - 1: rows}
    constants = torch.zeros_like(rows[:, :, 0])
    best = torch.full_like(constants, -torch.inf)
    for place in range(len(bounds.values) - 1, -1, -1):
        if place not in waiting:
            continue
        if len(waiting) == 1:
            found = constants + _lowest(waiting[place], bounds.values[place])
            best = torch.fmax(best, found)
        if place <= back_to and len(waiting) == 1:
            break
        rows = waiting.pop(place)
        layer = bounds.network.layers[place - 1]
        inputs = [bounds.values[index] for index in layer.inputs]
        parts, constant = layer.operation.backward(rows, *inputs)
        constants = constants + constant - _sums(rows.abs(), bounds.errors[place])
        for index, part in zip(layer.inputs, parts, strict=True):
            waiting[index] = waiting[index] + part if index in waiting else part
    return best.T


def _differences(logits: Tensor, labels: Tensor) -> Tensor:
    """The coefficients (K - 1, N, K) of the label's logit less each other one."""
    images, classes = logits.shape
    others = torch.arange(classes - 1, device=labels.device)[:, None].expand(-1, images)
    others = others + (others >= labels)
    rows = logits.new_zeros(classes - 1, images, classes)
    rows.scatter_(2, others[:, :, None], -1.0)
    rows.scatter_(2, labels.expand(classes - 1, -1)[:, :, None], 1.0)
    return rows


def _lowest(rows: Tensor, box: Box) -> Tensor:
    """The least of the sums (R, N) in a box, less the rounding of this very sum."""
    slack = 4 * UNIT * (box.size + FURTHER)
    return _sums(rows, box.centre) - _sums(rows.abs(), box.radius + slack * box.magnitude)


def _sums(rows: Tensor, values: Tensor) -> Tensor:
    """The sums (R, N) of values (N, ...) with coefficients (R, N, ...)."""
    return (rows * values).flatten(2).sum(dim=2)
