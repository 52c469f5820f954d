"""What a changed recipe is called: as a preset that means the same, or as its base and changes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from robustbench_pcl.configuration import digest
from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.recipes.build import MEMBERS, RecipeBuilder
from robustbench_pcl.recipes.presets import PAPER_PRESETS, PRESETS, SUFFIXES, is_recipe

LONGEST_NAME = 80
"""Characters of a recipe's name, which is part of the names of files."""


def named(builder: RecipeBuilder, recipe: Recipe, paths: tuple[str, ...] = ()) -> Recipe:
    """The recipe, and the one that it starts from, under their own names.

    Args:
        builder: that made it.
        recipe: called after the name that it was made from.
        paths: of the fields that were changed ("schedule.epochs").
    """
    start = recipe.start
    if start:
        before = builder.build(start.name, {"seed": start.seed})
        start = named(builder, start, tuple(_differences(start.content(), before.content())))
    return recipe.changed(name=_name(builder, recipe, paths), start=start)


def _name(builder: RecipeBuilder, recipe: Recipe, paths: tuple[str, ...]) -> str:
    base = recipe.name
    if base in PAPER_PRESETS and not paths:
        return base
    for name in dict.fromkeys([*([base] if paths else []), *_alike(recipe), base]):
        try:
            other = builder.build(name, {"seed": recipe.seed})
        except UserError:
            continue  # a recipe of the user's that cannot be made is no name for this one
        if (other.identity, other.inference) == (recipe.identity, recipe.inference):
            return name
    return _composed(recipe, builder.build(base, {"seed": recipe.seed}), paths)


def _alike(recipe: Recipe) -> Iterator[str]:
    """Names that may mean the same as a recipe, the paper's first."""
    yield from PRESETS
    training = recipe.adversarial_training
    if training and training.attack in SUFFIXES:
        for name in (*PRESETS, recipe.name):
            if is_recipe(f"{name}-{training.attack}"):
                yield f"{name}-{training.attack}"


def _composed(recipe: Recipe, base: Recipe, paths: tuple[str, ...]) -> str:
    """The base's name and what was changed: "ours+feature_layers=3,4"."""
    mine, theirs = recipe.content(), base.content()
    changes = [
        f"{_shown(path)}={_text(_at(mine, path))}"
        for path in sorted(paths)
        if _at(mine, path) != _at(theirs, path)
        and not (path.startswith("start.") and path.removeprefix("start.") in paths)
    ]
    name = f"{base.name}+{','.join(changes)}"
    if not changes or len(name) > LONGEST_NAME:
        return f"{base.name}+{digest([recipe.identity, recipe.inference])}"
    return re.sub(r"[^\w+=.,-]", "_", name)


def _differences(mine: Any, theirs: Any, above: str = "") -> Iterator[str]:
    """The paths at which two recipes' contents differ; decays that follow the epochs do not."""
    for key, value in mine.items():
        other = theirs.get(key) if isinstance(theirs, Mapping) else None
        if isinstance(value, Mapping):
            yield from _differences(value, other, f"{above}{key}.")
        elif value != other and (key != "milestones" or mine["epochs"] == theirs["epochs"]):
            yield above + key


def _at(content: Any, path: str) -> Any:
    """The value at a path of a recipe's content; None where there is nothing."""
    for key in path.split("."):
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _shown(path: str) -> str:
    """A path; that of a member's name is the member's own."""
    field, _, key = path.rpartition(".")
    return field if MEMBERS.get(field.rpartition(".")[2]) == key else path


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else str(value).removesuffix(".0")
