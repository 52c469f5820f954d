"""Momentum Iterative Method (Dong et al. 2018; Section 5, Eq. 18 and 19)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustbench_pcl.attacks.sign_gradient import SignGradientAttack


@dataclass(frozen=True)
class MIM(SignGradientAttack):
    """BIM along a running sum of L1-normalised gradients (Table 2: step eps/10, i = 10, mu = 1)."""

    momentum: float = field(default=1.0, metadata={"doc": "decay factor mu of the running sum"})

    def direction(self, gradient: Tensor, previous: Tensor) -> Tensor:
        """Eq. 18; an image whose gradient is zero keeps its running sum."""
        length = gradient.abs().sum(dim=(1, 2, 3), keepdim=True)
        return self.momentum * previous + gradient / length.clamp_min(
            torch.finfo(gradient.dtype).tiny
        )
