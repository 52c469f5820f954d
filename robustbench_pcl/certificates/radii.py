"""Certified radii: how far an image may be changed without being classified otherwise."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_pcl.certificates.crown import Bounds, Rounding, interval_bounds, margins
from robustbench_pcl.certificates.network import NotSupportedError, network_of
from robustbench_pcl.certificates.operations import Box, Rectifier
from robustbench_pcl.progress import Advance

METHOD = "crown"
TRIALS = 14
"""Budgets that are tried for an image, the largest first: its radius is known to an 8,000th."""
CHUNK = 32
"""Images that are bounded at once."""
SMALL = 0.1
"""A radius is small below this share of the largest that was looked for."""


@dataclass(frozen=True)
class Radii:
    """How far images may be changed, each, without being classified otherwise.

    Attributes:
        certified: float64 (N,), rounded downwards; 0 where the image is wrong, or where nothing is
            certified.
        method: how they were found.
        reason: why they are small, in words; "" if they are not.
    """

    certified: Tensor
    method: str
    reason: str


def certified_radii(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    largest_eps: float,
    *,
    progress: Advance | None = None,
) -> Radii:
    """The largest radius for which bounds show that no change flips the model's answer.

    For each image, by halving. What is certified: the model as given, in its own arithmetic,
    classifies as the label every image in its own type whose pixels are all in [0, 1] and all
    within the radius of the image's, whatever the order in which its layers sum up, as long as
    they do it in that arithmetic (no Winograd convolutions). See
    :class:`~robustbench_pcl.certificates.crown.Rounding`.

    Args:
        model: maps images to logits (N, K); normalisation is inside it. It is bounded in eval mode.
        images: float (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        largest_eps: no radius beyond it is looked for, in pixels of [0, 1].
        progress: is told how many images are done since the last call, and nothing to show.
    """
    certified = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    try:
        certifier = Certifier(model, images.dtype)
        for start in range(0, len(images), CHUNK):
            rows = slice(start, start + CHUNK)
            certified[rows] = certifier.radii(images[rows], labels[rows], largest_eps)
            if progress is not None:
                progress(len(labels[rows]), "")
    except NotSupportedError as error:
        return Radii(torch.zeros_like(certified), METHOD, f"nothing can be certified: {error}")
    return Radii(certified, METHOD, certifier.reason(images, labels, certified, largest_eps))


class Certifier:
    """A model whose answers in a ball can be bounded.

    Args:
        model: maps images to logits (N, K).
        dtype: of the images.

    Raises:
        NotSupportedError: it has a layer of which no bounds are known.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.rounding = _rounding(self.model, dtype)
        for name, module in self.model.named_modules():
            if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
                raise NotSupportedError(f"layer {name} has a hook, which may do anything")
        self._longer = copy.deepcopy(self.model).double()
        self.network = network_of(self._longer)

    def radii(self, images: Tensor, labels: Tensor, largest_eps: float) -> Tensor:
        """Certified radii, float64 (N,), of images (N, C, H, W) with labels int64 (N,).

        Raises:
            NotSupportedError: the model does not answer what its layers give.
        """
        with torch.no_grad():
            self._check_answers(images, largest_eps)
            right = self.model(images).argmax(dim=1) == labels
            low = torch.zeros(len(images), dtype=torch.float64, device=images.device)
            high = torch.full_like(low, largest_eps).masked_fill(~right, 0)
            eps = high
            for _ in range(TRIALS):
                open_ = low < high
                if not bool(open_.any()):
                    break
                holds = open_.clone()
                holds[open_] = self.certifies(images[open_], labels[open_], eps[open_])
                low, high = torch.where(holds, eps, low), torch.where(open_ & ~holds, eps, high)
                eps = (low + high) / 2
        return low

    def certifies(self, images: Tensor, labels: Tensor, eps: Tensor) -> Tensor:
        """Boolean (N,): whether bounds show that nothing within eps (N,) flips the answer."""
        return (margins(self.bounds(images, eps), labels) > 0).all(dim=1)

    def bounds(self, images: Tensor, eps: Tensor) -> Bounds:
        """Interval bounds in the balls of radius eps (N,) around images (N, C, H, W)."""
        return interval_bounds(self.network, _ball(images, eps), self.rounding)

    def reason(self, images: Tensor, labels: Tensor, certified: Tensor, largest_eps: float) -> str:
        """Why radii (N,) are small; "" where more than half of the right ones are not.

        Args:
            images: (N, C, H, W).
            labels: int64 (N,).
            certified: their radii.
            largest_eps: the largest that was looked for.
        """
        few, own = images[:CHUNK], labels[:CHUNK]
        with torch.no_grad():
            logits = self.model(few)
            right = logits.argmax(dim=1) == own
            if not bool(right.any()) or certified[:CHUNK][right].median() > SMALL * largest_eps:
                return ""
            few, own, logits = few[right], own[right], logits[right].double()
            bounds = self.bounds(few, torch.full_like(certified[: len(few)], largest_eps))
        others = logits.scatter(1, own[:, None], -torch.inf).amax(dim=1)
        gap = float((logits.gather(1, own[:, None])[:, 0] - others).median())
        width = float(bounds.values[-1].radius.median())
        words = (
            f"bound too loose: at eps {largest_eps:g} logits are known to within {width:.2g}, and "
            f"the label's is {gap:.2g} above the others"
        )
        shares = [
            (float(operation.unstable(bounds.values[layer.inputs[0]]).double().mean()), layer.name)
            for layer in self.network.layers
            if isinstance(operation := layer.operation, Rectifier)
        ]
        if shares:
            share, name = max(shares)
            words += f"; {100 * share:.0f} % of the inputs of {name} may be above or below 0"
        return words

    def _check_answers(self, images: Tensor, eps: float) -> None:
        """Check that logits are what the network's layers give, on images and near them.

        In float64, where rounding hides nothing, and in the model's own arithmetic.

        Raises:
            NotSupportedError: they are not, so that the bounds would be another model's.
        """
        signs = torch.ones_like(images)
        signs.flatten(1)[:, ::2] = -1
        float64 = _rounding(self._longer, torch.float64)
        for shown in (images, (images + eps * signs).clamp(0, 1)):
            ball = _ball(shown, shown.new_zeros(len(shown)))
            for found, rounding in (
                (self._longer(shown.double()), float64),
                (self.model(shown).double(), self.rounding),
            ):
                logits = interval_bounds(self.network, ball, rounding).values[-1]
                expected = logits.centre - logits.centre[:, :1]
                slack = 1.001 * (logits.radius + logits.radius[:, :1])
                if not bool(((found - found[:, :1] - expected).abs() <= slack).all()):
                    raise NotSupportedError("the model's answers are not what its layers give")


def _ball(images: Tensor, eps: Tensor) -> Box:
    """All pixels in [0, 1] within eps (N,) of those of images (N, C, H, W); float64."""
    centre, reach = images.double(), eps.double().view(-1, 1, 1, 1)
    lower = torch.nextafter(centre - reach, centre - 1).clamp(0, 1)
    upper = torch.nextafter(centre + reach, centre + 1).clamp(0, 1)
    return Box.between(lower, upper)


def _rounding(model: nn.Module, dtype: torch.dtype) -> Rounding:
    """Of a model's arithmetic; where float32 is computed with fewer bits, of those.

    Raises:
        NotSupportedError: its weights are not all of the images' type.
    """
    floating = [value for value in model.state_dict().values() if value.is_floating_point()]
    if {value.dtype for value in floating} - {dtype} or dtype not in (torch.float32, torch.float64):
        raise NotSupportedError("images and weights are not all float32 or all float64")
    numbers, unit = torch.finfo(dtype), torch.finfo(dtype).eps / 2
    if dtype == torch.float32:
        reduced = torch.get_float32_matmul_precision() != "highest"
        on_cuda = any(value.is_cuda for value in floating)
        on_tensor_cores = on_cuda and torch.backends.cudnn.allow_tf32
        unit = 2.0**-8 if reduced else 2.0**-11 if on_tensor_cores else unit
    return Rounding(unit, numbers.tiny, numbers.max)
