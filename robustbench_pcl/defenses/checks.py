"""What several defences require of their parameters."""

from __future__ import annotations


def check_walk(steps: int, relative_step_size: float) -> None:
    """Check that an attack moves.

    Raises:
        ValueError: it takes no step, or steps of no size.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; an attack takes at least one")
    check_positive("relative_step_size", relative_step_size)


def check_positive(name: str, value: float) -> None:
    """Check that a parameter is above 0.

    Raises:
        ValueError: it is not.
    """
    if not value > 0:
        raise ValueError(f"{name} is {value}, not positive")
