"""Fast Gradient Sign Method (Goodfellow et al. 2015; Section 5, Eq. 16)."""

from __future__ import annotations

from dataclasses import dataclass, field

from robustbench_pcl.attacks.sign_gradient import SignGradientAttack


@dataclass(frozen=True)
class FGSM(SignGradientAttack):
    """One step of size eps along the sign of the gradient (Table 2: i = 1)."""

    steps: int = field(default=1, metadata={"doc": "gradient steps"})
    relative_step_size: float = field(default=1.0, metadata={"doc": "step size, as a share of eps"})
