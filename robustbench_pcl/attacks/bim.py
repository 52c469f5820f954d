"""Basic Iterative Method (Kurakin et al. 2016; Section 5, Eq. 17)."""

from __future__ import annotations

from dataclasses import dataclass

from robustbench_pcl.attacks.sign_gradient import SignGradientAttack


@dataclass(frozen=True)
class BIM(SignGradientAttack):
    """FGSM in small steps from the clean image (Table 2: step eps/10, i = 10)."""
