"""One number of a table, as a question: who is attacked, by what, crafted on whom."""

from __future__ import annotations

from typing import Literal

from robustbench_pcl.specs.base import Part, Spec

Quantity = Literal["accuracy", "seconds_per_epoch", "epochs"]


class Cell(Spec):
    """A position in a table asks for one of these, and a measurement answers it.

    Attributes:
        dataset: name in the catalogue.
        target: the recipe that is measured.
        source: the recipe the adversarial images are crafted on: the target itself for a
            white-box attack; None for clean accuracy and for training figures.
        attack: the attack, with at least its ``eps`` (or ``c``); None for clean accuracy.
        quantity: accuracy in per cent, or a figure of the training run.
    """

    dataset: str
    target: str
    source: str | None = None
    attack: Part | None = None
    quantity: Quantity = "accuracy"
