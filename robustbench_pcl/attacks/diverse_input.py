"""Diverse-input MIM (Xie et al. 2019): gradients of images resized and padded at random."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from robustbench_pcl.attacks.balls import counted
from robustbench_pcl.attacks.gradient_descent import MIM, DescentState
from robustbench_pcl.attacks.passes import Pass
from robustbench_pcl.attacks.rows import Rows
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robustbench_pcl.attacks.target import Loss


@dataclass(frozen=True, eq=False)
class Resized(Rows):
    """How images are resized and padded, and what the loss takes beside them.

    Attributes:
        down: float (N, H, H), for each row how much of each row of the image is in it.
        right: float (N, W, W), the same of columns.
        aims: what the loss takes.
    """

    down: Tensor
    right: Tensor
    aims: Tensor | Rows


class DIM(MIM):
    r"""Diverse-input MIM, for transfer: each gradient is of the image, or of a smaller copy of it.

    .. math::

        g_{m+1} = \mu g_m + \frac{\nabla_x \mathcal{L}(T(x_m; p), y)}
        {\| \nabla_x \mathcal{L}(T(x_m; p), y) \|_1}, \qquad
        x_{m+1} = \Pi \left( x_m + \alpha \operatorname{sign} g_{m+1} \right)

    M-DI2-FGSM (Section 3.3): with probability ``diversity`` the image is resized, to a random size
    of at least the share ``smallest``, and padded with zeros at random sides to its old size.
    Sizes and sides are drawn for each image and step. As the passes are not of the images
    themselves, nobody leaves early.
    """

    early_stop: ClassVar[bool] = False

    name: Literal["dim"] = "dim"  # type: ignore[assignment]
    diversity: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="probability p that an image is resized and padded"
    )
    smallest: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="size of the smallest copies, as a share of the image's"
    )

    def differentiate(self, target: TargetModel, state: DescentState) -> Pass:
        """The gradient through the resized copy."""
        here = state.adversarial
        drawn = counted(state.chunk.seeds, state.step, 4)
        share = self.smallest + (1 - self.smallest) * drawn[:, 1]
        share = torch.where(drawn[:, 0] < self.diversity, share, 1)
        down, right = (
            resizing(size, share, place).to(here)
            for size, place in zip(here.shape[2:], drawn[:, 2:].unbind(dim=1), strict=True)
        )
        rows = Resized(down, right, state.aims)
        loss = partial(_of_resized, self.loss)
        return target.differentiate(loss, here, rows, exact=state.exact)


def _of_resized(
    loss: Loss, model: nn.Module, images: Tensor, rows: Resized
) -> tuple[Tensor, Tensor]:
    copies = rows.down[:, None] @ images @ rows.right[:, None].transpose(2, 3)
    return loss(model, copies, rows.aims)


def resizing(size: int, share: Tensor, place: Tensor) -> Tensor:
    """Matrices (N, size, size) that resize by linear interpolation, and pad with zeros.

    The whole size gives the identity.

    Args:
        size: in pixels.
        share: float (N,), of the size that is left, rounded to pixels.
        place: float (N,), uniform in [0, 1), where among its zeros the copy lies.
    """
    left = (share * size).round().clamp_min(1)
    start = (place * (size - left + 1)).floor()
    pixels = torch.arange(size, device=share.device)
    number = pixels - start[:, None]
    source = ((number + 0.5) * (size / left)[:, None] - 0.5).clamp(0, size - 1)
    weights = (1 - (source[:, :, None] - pixels).abs()).clamp_min(0)
    inside = (number >= 0) & (number < left[:, None])
    return weights * inside[:, :, None]
