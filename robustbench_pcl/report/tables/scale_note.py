"""What a scale cut, in words: the recipes measured against the same recipes at paper scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.recipes.named import is_recipe, named_recipe
from robustbench_pcl.report.formatting import listed, span
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.recipe import Recipe

Pair = tuple[Recipe, Recipe]


def scale_note(recipes: Sequence[Recipe]) -> str:
    """One sentence on models, images, epochs and training attacks.

    Args:
        recipes: of one scale and data set; at least one.
    """
    scale = recipes[0].scale
    pairs = [(recipe, _published(recipe)) for recipe in recipes]
    differences = "; ".join(
        [*_models(pairs), *_images(recipes), *_epochs(pairs), *_training_attacks(pairs)]
    )
    return f"{scale.capitalize()} scale: {differences or 'sizes as published'}."


def _published(recipe: Recipe) -> Recipe:
    """The recipe at paper scale; the recipe itself where it has no name there."""
    if not is_recipe(recipe.name):
        return recipe
    return named_recipe(recipe.name, recipe.dataset, "paper", recipe.seed)


def _models(pairs: Iterable[Pair]) -> Iterator[str]:
    seen = {}
    for used, paper in pairs:
        if used.model != paper.model:
            seen[used.model] = f"{used.model} in place of {paper.model}"
        elif used.width != paper.width:
            seen[used.model] = f"{used.model} at {used.width:g} of its width"
    yield from seen.values()


def _images(recipes: Iterable[Recipe]) -> Iterator[str]:
    images = {
        recipe.train_images
        for recipe in recipes
        if (recipe.train_images or math.inf) < dataset_spec(recipe.dataset).train_images
    }
    if images:
        yield f"the first {span(filter(None, images))} training images"


def _epochs(pairs: Iterable[Pair]) -> Iterator[str]:
    counts = [(_all_epochs(used), _all_epochs(paper)) for used, paper in pairs]
    if any(used != paper for used, paper in counts):
        yield (
            f"{span(used for used, _ in counts)} epochs "
            f"(paper: {span(paper for _, paper in counts)})"
        )


def _all_epochs(recipe: Recipe) -> int:
    return recipe.schedule.epochs + (_all_epochs(recipe.start) if recipe.start else 0)


def _training_attacks(pairs: Iterable[Pair]) -> Iterator[str]:
    cut = {}
    for used, paper in pairs:
        for part, published in zip(_parts(used), _parts(paper), strict=True):
            steps, wanted = part.parameters.get("steps"), published.parameters.get("steps")
            if part.name == published.name and steps != wanted:
                cut[part.name, steps, wanted] = (
                    f"{part.name} with {steps} attack steps (paper: {wanted})"
                )
    if cut:
        yield listed(cut.values())


def _parts(recipe: Recipe) -> tuple[Part, Part]:
    """What may attack the training images: the defence, and the attack they are trained against."""
    return recipe.defense, recipe.adversarial_training or Part(name="none")
