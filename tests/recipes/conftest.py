"""Recipes and members of families that a test adds are gone after it."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import pytest
from pydantic import Field

from robustbench_pcl.configuration import Positive
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.defenses.base import Standard
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.losses.configuration import LossConfiguration
from robustbench_pcl.models import MODELS
from robustbench_pcl.recipes.presets import PRESETS

TABLES = (PRESETS, LOSSES.members, DEFENSES.members, MODELS.members)


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


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = [dict(table) for table in TABLES]
    yield
    for table, entries in zip(TABLES, before, strict=True):
        table.clear()
        table.update(entries)


@pytest.fixture
def plugins() -> None:
    """A loss with and one without cross-entropy, a defence and a model from outside."""
    LOSSES.add("cosine", f"{__name__}:Cosine")
    LOSSES.add("alone", f"{__name__}:Alone")
    DEFENSES.add("smooth", f"{__name__}:Smooth")
    MODELS.add("shallow", "nowhere:shallow")
