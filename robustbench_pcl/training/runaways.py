"""Signs in a training history that a loss is about to run away."""

from __future__ import annotations

import math
from typing import Any


def runaways(entry: dict[str, Any], history: list[dict[str, Any]]) -> list[str]:
    """Signs in an epoch that the loss is about to run away.

    Cross-entropy that has risen far above its lowest value means that the other terms have taken
    over; a term that has grown more than tenfold since the first epoch has no bound in sight.
    """
    if not history:
        return []
    found = []
    lowest = min(past.get("cross_entropy", math.inf) for past in history)
    if entry.get("cross_entropy", 0.0) > 2 * lowest + 0.5:
        found.append(
            f"cross-entropy rose from {lowest:.2f} to {entry['cross_entropy']:.2f}; "
            "the other terms are taking over: lower their weight"
        )
    known = {"epoch", "seconds", "training_accuracy", "gradient_norm", "cross_entropy", "loss"}
    for name in entry.keys() - known:
        first = history[0].get(name, 0.0)
        if abs(entry[name]) > 10 * (abs(first) + 1):
            found.append(f"{name} went from {first:.2f} to {entry[name]:.2f} and may run away")
    return found
