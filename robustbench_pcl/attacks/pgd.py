"""Projected Gradient Descent (Madry et al. 2017; Section 5, Eq. 22 and 23)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from robustbench_pcl.attacks.sign_gradient import SignGradientAttack


@dataclass(frozen=True)
class PGD(SignGradientAttack):
    """BIM from a uniformly random point of the ball (Table 2: step eps/4, i = 10)."""

    random_start: ClassVar[bool] = True

    relative_step_size: float = field(
        default=0.25, metadata={"doc": "step size, as a share of eps"}
    )
