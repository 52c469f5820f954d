"""The names of the scales, apart from all else so that the command line's help stays quick."""

from __future__ import annotations

from typing import Literal

Scale = Literal["paper", "quick", "demo"]
SCALES: tuple[Scale, ...] = ("paper", "quick", "demo")
