"""Names of choices, apart from all else so that the command line's help stays quick."""

from __future__ import annotations

from typing import Literal

Scale = Literal["paper", "quick", "demo"]
SCALES: tuple[Scale, ...] = ("paper", "quick", "demo")

TrainingPrecision = Literal["mixed", "float32"]
"""How a training computes: "mixed" is convolutions and matrix products in bfloat16 where the device
does so natively, and all else in float32."""
TRAINING_PRECISIONS: tuple[TrainingPrecision, ...] = ("mixed", "float32")

CraftingMode = Literal["exact", "fast", "until-fooled"]
"""How adversarial images are made: by the plain model, all steps; by the prepared model, all
steps; by the prepared model, each image until the first step that fools the plain one."""
