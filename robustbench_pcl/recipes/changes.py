"""What can be changed about a recipe, and the words for it in a recipe's name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.recipes.bases import changed
from robustbench_pcl.recipes.scales import SIZES
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.recipe import Recipe


class Change(NamedTuple):
    """One kind of change.

    Attributes:
        names: which words mean it.
        apply: (recipe, word, data set) -> the changed recipe.
    """

    names: Callable[[str], bool]
    apply: Callable[[Recipe, str, DatasetSpec], Recipe]


def _two_neurons(recipe: Recipe, _word: str, _spec: DatasetSpec) -> Recipe:
    """Two neurons in the penultimate layer, also of the recipe it starts from."""
    start = changed(recipe.start, embedding=2) if recipe.start else None
    return changed(recipe, embedding=2, start=start)


def _tapped(recipe: Recipe, word: str, _spec: DatasetSpec) -> Recipe:
    """The loss at some layers only (Table 11)."""
    return changed(recipe, taps=tuple(sorted({int(layer) for layer in word[1:]})))


def _defended(recipe: Recipe, word: str, spec: DatasetSpec) -> Recipe:
    """A defence with its published parameters for the data set, from the recipe's start on."""
    member = DEFENSES[word]
    settings = member.settings(spec, SIZES[recipe.scale].pgd_steps[1])
    defense = Part(name=word, parameters=settings)
    return changed(recipe, defense=defense, members=member.members)


def _trained_against(recipe: Recipe, word: str, spec: DatasetSpec) -> Recipe:
    """Adversarial training with budgets from the paper's interval (Section 6.1)."""
    low, high = spec.training_eps
    single = word == "fgsm"
    steps = 1 if single else SIZES[recipe.scale].pgd_steps[0]
    part = Part(
        name=word,
        parameters={
            "steps": steps,
            # Table 2's eps/4 for 10 steps, so that fewer steps walk as far in all.
            "relative_step_size": 1.0 if single else 2.5 / steps,
            "low": low,
            "high": high,
        },
    )
    return changed(recipe, adversarial_training=part)


def _nearest(recipe: Recipe, _word: str, _spec: DatasetSpec) -> Recipe:
    """The nearest prototype or class mean decides (Eq. 7)."""
    return changed(recipe, inference="nearest")


CHANGES = (
    Change("2d".__eq__, _two_neurons),
    Change(lambda word: re.fullmatch(r"l\d+", word) is not None, _tapped),
    Change(lambda word: word in DEFENSES and word != "none", _defended),
    Change(lambda word: word in ATTACKS, _trained_against),
    Change("nearest".__eq__, _nearest),
)
"""All changes, in the order in which a name gives them."""
