"""What can be changed about a recipe, and the words for it in a recipe's name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from typing import NamedTuple

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.errors import UserError
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
    if not recipe.taps:
        raise UserError(
            f"{recipe.name} has no loss that acts on layers.",
            "Leave the layers out, or take another base: ours-l45.",
        )
    return changed(recipe, taps=tuple(int(layer) for layer in word[1:]))


def _defended(recipe: Recipe, word: str, spec: DatasetSpec) -> Recipe:
    """A defence with its parameters for the data set; what the recipe starts from has none."""
    member = DEFENSES[word]
    settings = member.settings(spec, SIZES[recipe.scale].pgd_steps[1])
    # Defaults are written out, so that a checkpoint's id changes when one of them does.
    defaults = {entry.name: entry.default for entry in fields(member)}
    defense = Part(name=word, parameters={**defaults, **settings})
    return changed(recipe, defense=defense, members=member.members)


def _trained_against(recipe: Recipe, word: str, spec: DatasetSpec) -> Recipe:
    """Adversarial training with budgets from the paper's interval (Section 6.1)."""
    if DEFENSES[recipe.defense.name].crafts:
        raise UserError(
            f"{recipe.defense.name} trains on adversarial images already.",
            f"Leave -{word} out: its budget would be spent twice.",
        )
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
    Change(lambda word: re.fullmatch("l(?=.)0?1?2?3?4?5?6?7?8?9?", word) is not None, _tapped),
    Change(lambda word: word in DEFENSES and word != "none", _defended),
    Change(lambda word: word in ATTACKS, _trained_against),
    Change("nearest".__eq__, _nearest),
)
"""All changes, in the order in which a name gives them."""
