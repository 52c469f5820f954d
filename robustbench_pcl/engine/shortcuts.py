"""What the engine may do to be fast. None of it changes what an attack is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Shortcuts:
    """Which shortcuts may be taken; each is dropped where it fails its own check.

    Verdicts are always the plain model's, in its own precision.

    Attributes:
        folded: batch normalisation is multiplied into the convolutions, a frozen PReLU is a leaky
            ReLU, channels come last. The same numbers up to rounding.
        precision: of convolutions and what lies between them.
        retiring: an image leaves once it is adversarial, where only that is asked.
        compiled: the model is compiled where so much is left to do that it pays.
    """

    folded: bool = False
    precision: Precision = "float32"
    retiring: bool = False
    compiled: bool = False

    @property
    def prepared(self) -> bool:
        """Whether attacks run on a prepared copy of the model."""
        return self.folded or self.precision != "float32"


EXACT = Shortcuts()
"""The plain model, all steps for every image."""


def shortcuts_for(device: torch.device) -> Shortcuts:
    """What pays on a device: everything, but bfloat16 only where it is native."""
    from robustbench_pcl.hardware import computes_bfloat16

    precision: Precision = "bfloat16" if computes_bfloat16(device) else "float32"
    return Shortcuts(folded=True, precision=precision, retiring=True, compiled=True)
