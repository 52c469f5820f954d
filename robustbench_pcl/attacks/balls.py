"""The balls that perturbations stay in: where to start, which way is steepest, how to get back."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustbench_pcl.attacks.rows import Rows
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_pcl.attacks.base import Chunk, Norm


@dataclass(frozen=True, eq=False)
class Ball(Rows):
    """Balls around clean images, cut off at 0 and 1.

    Attributes:
        images: float (N, C, H, W) in [0, 1], their centres.
        eps: float (N, 1, 1, 1), their radii.
    """

    images: Tensor
    eps: Tensor

    @abstractmethod
    def project(self, points: Tensor) -> Tensor:
        """Points (N, C, H, W), back inside: no further than eps from the image in any precision."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """The steps (N, C, H, W) of size 1 along which ``gradient`` (N, C, H, W) grows fastest."""

    @abstractmethod
    def dual_norm(self, gradient: Tensor) -> Tensor:
        """How much ``gradient`` (N, C, H, W) grows along its steepest step of size 1, (N,)."""

    @abstractmethod
    def random(self, seeds: Tensor) -> Tensor:
        """Random points (N, C, H, W) inside, each from its own seed, int64 (N,)."""

    @abstractmethod
    def distance(self, points: Tensor) -> Tensor:
        """How far points (N, C, H, W) are from their images, (N,), in the ball's norm."""


@dataclass(frozen=True, eq=False)
class LinfBall(Ball):
    """Each pixel by itself.

    Attributes:
        low: float (N, C, H, W), the lower end of ball and [0, 1].
        high: float (N, C, H, W), the upper end.
    """

    low: Tensor
    high: Tensor

    def project(self, points: Tensor) -> Tensor:
        """Each pixel to the nearer end."""
        return points.clamp(self.low, self.high)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The sign of each pixel's gradient."""
        return gradient.sign()

    def dual_norm(self, gradient: Tensor) -> Tensor:
        """The L1 norm."""
        return gradient.abs().sum(dim=(1, 2, 3))

    def random(self, seeds: Tensor) -> Tensor:
        """Uniform in the ball, cut off at 0 and 1."""
        return self.project(self.images + self.eps * uniform_noise(self.images, seeds))

    def distance(self, points: Tensor) -> Tensor:
        """The largest change of a pixel."""
        return (points - self.images).abs().amax(dim=(1, 2, 3))


@dataclass(frozen=True, eq=False)
class L2Ball(Ball):
    """The sum of the squares of all pixels' changes.

    Projected is to the ball, then to [0, 1]: the nearest point of both together would be another,
    but clipping only shortens a perturbation, so the result is inside (common practice).
    """

    def project(self, points: Tensor) -> Tensor:
        """Shortened to eps, then clipped."""
        change = (points - self.images).double()
        length = change.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
        # What rounding the sum to the images' precision can add, at most.
        slack = torch.finfo(points.dtype).eps / 2 * points[0].numel() ** 0.5
        radius = (self.eps.double() - slack).clamp_min(0)
        shorter = change * (radius / length.clamp_min(torch.finfo(change.dtype).tiny))
        inside = (self.images + torch.where(length > radius, shorter, change)).to(points)
        # Those inside stay as they are, bit for bit.
        return torch.where(length > radius, inside, points).clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The gradient, of length 1; 0 where it is 0."""
        smallest = torch.finfo(gradient.dtype).tiny
        # Scaled first: squares of a flattened loss's gradient are too small for any float.
        scaled = gradient / gradient.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(smallest)
        length = scaled.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
        return scaled / length.clamp_min(smallest)

    def dual_norm(self, gradient: Tensor) -> Tensor:
        """The L2 norm."""
        return gradient.double().square().sum(dim=(1, 2, 3)).sqrt().to(gradient)

    def random(self, seeds: Tensor) -> Tensor:
        """In a uniformly random direction, at the distance of eps (Croce and Hein 2020)."""
        return self.project(self.images + self.eps * self.steepest(normal(self.images, seeds)))

    def distance(self, points: Tensor) -> Tensor:
        """The Euclidean distance."""
        return self.dual_norm(points - self.images)


def ball(chunk: Chunk, norm: Norm, eps: float) -> Ball:
    """The balls around a chunk's images: each image's own budget where the goal has one, or eps."""
    images = chunk.images
    radii = torch.full_like(chunk.rows, eps, dtype=torch.float64)
    if chunk.goal.eps is not None:
        radii = chunk.goal.eps
    radii = radii[:, None, None, None]
    if norm == "l2":
        return L2Ball(images, radii.to(images))
    return LinfBall(images, radii.to(images), *linf_ball(images, radii))


def linf_ball(images: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of the ball of radius ``eps`` (N, 1, 1, 1) around images, and of [0, 1].

    Rounded inwards: no pixel between them is further than eps from its image's, in any precision.
    """
    step = torch.finfo(images.dtype).eps  # at least the distance between neighbours below 1
    centre, radius = images.double(), eps.double()
    lowest, highest = (centre - radius).clamp_min(0), (centre + radius).clamp_max(1)
    low, high = lowest.to(images), highest.to(images)
    low = torch.where(low.double() < lowest, torch.minimum(low + step, images), low)
    high = torch.where(high.double() > highest, torch.maximum(high - step, images), high)
    return low, high


def uniform_noise(images: Tensor, seeds: Tensor) -> Tensor:
    """Uniform in [-1, 1], of the images' shape; each image's from its own seed, on any device."""
    source = torch.Generator()
    drawn = [
        torch.rand(images.shape[1:], generator=source.manual_seed(seed), dtype=images.dtype)
        for seed in seeds.tolist()
    ]
    return (torch.stack(drawn) * 2 - 1).to(images.device)


def normal(images: Tensor, seeds: Tensor) -> Tensor:
    """Standard normal, of the images' shape; each image's from its own seed, on any device."""
    source = torch.Generator()
    drawn = [
        torch.randn(images.shape[1:], generator=source.manual_seed(seed), dtype=images.dtype)
        for seed in seeds.tolist()
    ]
    return torch.stack(drawn).to(images.device)


def counted(seeds: Tensor, counts: Tensor, columns: int) -> Tensor:
    """Uniform in [0, 1), float64 (N, columns): each row from its own seed and count alone.

    For numbers that are drawn anew in each step, where a generator for each image and step would
    take longer than the step: the counters are mixed by SplitMix64 (Steele et al. 2014, Fig. 16).

    Args:
        seeds: int64 (N,).
        counts: int64 (N,), of at least 0, such as steps.
        columns: how many numbers each row has.
    """
    keys = _mixed(seeds + (counts + 1) * _GOLDEN)
    places = torch.arange(1, columns + 1, device=seeds.device)
    return _shifted(_mixed(keys[:, None] + places * _GOLDEN), 11).double() / (1 << 53)


_GOLDEN, _FIRST, _SECOND = (
    constant - 2**64 for constant in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
"""SplitMix64's constants, as signed integers; sums and products are modulo 2**64."""


def _mixed(state: Tensor) -> Tensor:
    state = (state ^ _shifted(state, 30)) * _FIRST
    state = (state ^ _shifted(state, 27)) * _SECOND
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """To the right, filled with zeros: int64's own shift would repeat the sign."""
    shifted: Tensor = state >> bits
    return shifted & ((1 << 64 - bits) - 1)
