"""Members of families from outside the package."""

from typing import ClassVar, Literal

from pydantic import Field

from robustbench_pcl.configuration import Positive
from robustbench_pcl.defenses import Standard
from robustbench_pcl.losses import LossConfiguration


class Cosine(LossConfiguration):
    """One minus the cosine."""

    name: Literal["cosine"] = "cosine"
    scale: Positive = Field(1.0, description="factor")


class Alone(LossConfiguration):
    """A loss without cross-entropy."""

    with_cross_entropy: ClassVar[bool] = False
    has_anchors: ClassVar[bool] = True

    name: Literal["alone"] = "alone"


class Smooth(Standard):
    """A defence with a parameter that follows the data set's budget."""

    name: Literal["smooth"] = "smooth"  # type: ignore[assignment]
    radius: Positive = Field(0.5, description="in pixels")

    @classmethod
    def settings(cls, data, attack_steps):
        return {"radius": data.eps}
