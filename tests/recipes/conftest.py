"""Recipes and members of families that a test adds are gone after it."""

from collections.abc import Iterator

import pytest

from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.models import MODELS
from robustbench_pcl.recipes.presets import PRESETS

TABLES = (PRESETS, LOSSES.members, DEFENSES.members, MODELS.members)


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
    LOSSES.add("cosine", "recipe_toys:Cosine")
    LOSSES.add("alone", "recipe_toys:Alone")
    DEFENSES.add("smooth", "recipe_toys:Smooth")
    MODELS.add("shallow", "nowhere:shallow")
