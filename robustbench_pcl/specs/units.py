"""Reading what users type: perturbation budgets such as ``8/255``."""

from __future__ import annotations

import math
from fractions import Fraction

from robustbench_pcl.errors import UserError


def parse_eps(text: str | float) -> float:
    """A perturbation budget in units of pixels scaled to [0, 1].

    Args:
        text: a number ("0.03") or a fraction ("8/255", "0.5/255").

    Returns:
        The budget, between 0 and 1.

    Raises:
        UserError: not a number, negative, NaN or infinite, or above 1 (the usual mistake of
            writing 8 for 8/255).
    """
    try:
        eps = _quotient(text) if isinstance(text, str) else float(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        try:
            eps = float(text)  # "nan" and "inf" are floats but not fractions
        except (ValueError, OverflowError):
            eps = math.nan
    if not math.isfinite(eps):
        raise UserError(f"eps {text!r} is not a number.", "Write it as 0.03 or 8/255.")
    if eps < 0:
        raise UserError(f"eps {text} is negative.", "A budget is at least 0: write --eps 8/255.")
    if eps > 1:
        raise UserError(
            f"eps {text} is larger than the whole pixel range [0, 1].",
            f"Did you mean --eps {eps:g}/255?" if eps <= 255 else "Write it as 0.03 or 8/255.",
        )
    return eps


def _quotient(text: str) -> float:
    numerator, slash, denominator = text.replace(" ", "").partition("/")
    if "/" in denominator:
        raise ValueError(text)
    return float(Fraction(numerator) / Fraction(denominator if slash else 1))
