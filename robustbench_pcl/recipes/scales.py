"""What shrinks at each scale, as ``scales.toml`` says."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from importlib import resources
from typing import Any, Literal

from pydantic import Field

from robustbench_pcl.configuration import SCALES, Count, Description, Scalar, Scale
from robustbench_pcl.data.datasets import DatasetSpec

Length = Literal["first", "joint", "metric", "source"]
"""Which training's number of epochs: cross-entropy before a joint loss (T'), the joint loss, a loss
on pairs or triplets alone, or VGG-19's."""


class PerColour(Description):
    """A number for data sets of grey images, and one for colour."""

    grey: float
    colour: float

    def of(self, data: DatasetSpec) -> float:
        """The one for a data set."""
        return self.colour if data.shape[0] == 3 else self.grey


class Sizes(Description):
    """The sizes of one scale.

    Attributes:
        in_place_of: models that smaller ones stand for: name -> the smaller one's.
        width: factor on a model's channel counts; residual networks get fewer blocks instead.
        widths: the same of models that have their own: name -> factor.
        train_images: training images used, the first ones; all if None.
        attacked_images: test images attacked, the first ones; all if None.
        epochs: of each length.
        schedule: what all trainings share, where it is not a schedule's default.
        mixing_steps: steps of an iterative attack whose images join each batch (Algorithm 1).
        min_max_steps: steps of an iterative attack that a defence makes itself.
        attacks: parameters of attacks that differ from Table 2: attack -> parameter -> value.
    """

    in_place_of: dict[str, str] = Field(default_factory=dict)
    width: PerColour
    widths: dict[str, float] = Field(default_factory=dict)
    train_images: Count | None = None
    attacked_images: Count | None = None
    epochs: dict[Length, PerColour]
    schedule: dict[str, Scalar] = Field(default_factory=dict)
    mixing_steps: Count
    min_max_steps: Count
    attacks: dict[str, dict[str, Scalar]] = Field(default_factory=dict)

    def width_of(self, model: str, data: DatasetSpec) -> float:
        """The factor on a model's channel counts."""
        return self.widths.get(model, self.width.of(data))

    def schedule_of(self, length: Length, data: DatasetSpec) -> dict[str, Any]:
        """The epochs of a length, and after which of them the learning rate drops."""
        epochs = int(self.epochs[length].of(data))
        return {
            "epochs": epochs,
            "milestones": [int(epochs * share) for share in MILESTONES[length]],
        }


_STORED = tomllib.loads((resources.files(__package__) / "scales.toml").read_text(encoding="utf-8"))
SIZES: dict[Scale, Sizes] = {scale: Sizes.model_validate(_STORED[scale]) for scale in SCALES}
MILESTONES: dict[Length, list[Fraction]] = {
    length: [Fraction(share) for share in shares]
    for length, shares in _STORED["milestones"].items()
}
"""Shares of a length's epochs after which the learning rate drops."""


def attack_parameters(scale: Scale, name: str) -> dict[str, Scalar]:
    """The parameters of an attack that a scale changes."""
    return SIZES[scale].attacks.get(name, {})
