"""What a pass through a model gives: logits, gradients, classes, and whether two of them agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustbench_pcl.attacks.rows import Rows
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pass(Rows):
    """What a pass forward and backward gives.

    Attributes:
        logits: float (N, K).
        gradient: float (N, C, H, W), finite, of each image's own value in its pixels.
        values: float (N,), what was differentiated.
        exact: they are the reference model's, so that a verdict may rest on them.
        blind: boolean (N,), whose gradient was not finite in any pixel; it is 0 here.
    """

    logits: Tensor
    gradient: Tensor
    values: Tensor
    exact: bool
    blind: Tensor


def mean_of(passes: Sequence[Pass]) -> Pass:
    """The mean of several passes of the same images through a randomised model.

    Athalye et al. (2018), "expectation over transformation".
    """
    logits, gradient, values = (
        torch.stack([getattr(each, name) for each in passes]).mean(dim=0)
        for name in ("logits", "gradient", "values")
    )
    blind = torch.stack([each.blind for each in passes]).all(dim=0)
    return Pass(logits, gradient, values, passes[0].exact, blind)


def decided(logits: Tensor) -> Tensor:
    """The classes int64 (N,) of logits (N, K); -1, which no label is, where one is NaN."""
    return logits.argmax(dim=1).masked_fill(logits.isnan().any(dim=1), -1)


def bounded(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """A gradient (N, C, H, W) that norms and moments can bear.

    NaN becomes 0, infinity the image's largest finite value; where no pixel is finite all are 0.

    Returns:
        the gradient, and boolean (N,): where no pixel was finite.
    """
    finite = gradient.isfinite()
    blind = ~finite.flatten(1).any(dim=1)
    if bool(finite.all()):
        return gradient, blind
    zeroed = torch.where(finite, gradient, 0)
    largest = zeroed.abs().amax(dim=(1, 2, 3), keepdim=True)
    infinite = torch.where(largest > 0, largest, 1) * gradient.sign().nan_to_num(0)
    bounded = torch.where(finite | gradient.isnan(), zeroed, infinite)
    return torch.where(blind[:, None, None, None], 0, bounded), blind


def agree(expected: Tensor, found: Tensor, cosine: float) -> bool:
    """Whether the gradients (N, C, H, W) of two models point the same way for most images.

    Images for which the expected gradient is zero say nothing; if it is so for all, nothing is
    known, and the answer is no.

    Args:
        expected: the reference model's.
        found: the fast model's.
        cosine: the median of the images' cosines that there has to be.
    """
    wanted, given = expected.flatten(1).double(), found.flatten(1).double()
    told = wanted.norm(dim=1) > 0
    if not bool(told.any()):
        return False
    # Scaled first: a flattened loss has gradients whose squares are too small for any float.
    wanted, given = (rows / rows.abs().amax(dim=1, keepdim=True) for rows in (wanted, given))
    cosines = torch.cosine_similarity(wanted[told], given[told], dim=1).nan_to_num(nan=-1)
    return bool(cosines.median() >= cosine)
