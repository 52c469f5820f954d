"""``pclbench recipes``: what can be trained, by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_pcl.cli.console import Format, FormatOption, first_line, print_rows
from robustbench_pcl.cli.options import DatasetOption, ScaleOption, SeedOption, read_scale

if TYPE_CHECKING:
    from robustbench_pcl.specs.recipe import Recipe

app = typer.Typer(help="List recipes and show what one says.", no_args_is_help=True)


@app.command("list")
def list_recipes(form: FormatOption = Format.table) -> None:
    """List the recipes there are; more are composed of them, as the README shows."""
    from robustbench_pcl.recipes.named import named_recipe, recipe_names

    rows = [
        {"name": name, "what": _what(named_recipe(name, "cifar10", "paper"))}
        for name in recipe_names()
    ]
    print_rows(rows, form)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The recipe.")],
    dataset: DatasetOption = "cifar10",
    scale: ScaleOption = None,
    seed: SeedOption = 0,
) -> None:
    """Print everything that a recipe says, as JSON."""
    from robustbench_pcl.recipes.named import named_recipe

    print(json.dumps(named_recipe(name, dataset, read_scale(scale), seed).content(), indent=2))


def _what(recipe: Recipe) -> str:
    """What sets a recipe apart: its defence or loss or model, and what is added to it."""
    from robustbench_pcl.defenses import DEFENSES
    from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES
    from robustbench_pcl.models import MODELS

    defense = DEFENSES[recipe.defense.name]
    if defense.citation:
        words = f"{first_line(defense)} {defense.citation}."
    elif recipe.loss.name != CROSS_ENTROPY:
        words = first_line(LOSSES[recipe.loss.name])
    else:
        words = f"Cross-entropy. {first_line(MODELS[recipe.model])}"
    added = [
        f"Adversarial training by {recipe.adversarial_training.name}."
        if recipe.adversarial_training
        else "",
        "Two neurons before the logits." if recipe.embedding else "",
        "The nearest prototype decides." if recipe.inference == "nearest" else "",
    ]
    return " ".join(filter(None, [words, *added]))
