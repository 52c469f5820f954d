"""``pclbench recipes``, ``attacks`` and ``models``: what there is, by name."""

import json
from dataclasses import dataclass
from typing import Annotated

import typer

from robustbench_pcl.cli.choices import Format, attack_names, model_names, offered, recipe_names
from robustbench_pcl.cli.options import (
    DEFAULT_DATASET,
    DatasetOption,
    FormatOption,
    Seeded,
    Sized,
)
from robustbench_pcl.cli.output import first_line, print_rows


@dataclass(frozen=True, kw_only=True)
class ListRecipes:
    """List the recipes there are, with what sets each apart."""

    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print a row per recipe."""
        from robustbench_pcl.recipes.load import describe, load_recipe

        rows = [
            {"name": name, "what": describe(load_recipe(name, "cifar10", "paper"))}
            for name in recipe_names()
        ]
        print_rows(rows, self.form)


@dataclass(frozen=True, kw_only=True)
class ShowRecipe(Seeded):
    """Print everything that a recipe says, as JSON.

    Every field can be changed with train --set, such as --set schedule.epochs=20.
    """

    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The recipe.", autocompletion=offered(recipe_names)),
    ]
    dataset: DatasetOption = DEFAULT_DATASET

    def __call__(self) -> None:
        """Print it."""
        from robustbench_pcl.recipes.load import load_recipe

        recipe = load_recipe(self.name, self.dataset, self.size, self.seed)
        print(json.dumps(recipe.content(), indent=2))


@dataclass(frozen=True, kw_only=True)
class ListAttacks:
    """List the attacks there are."""

    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print a row per attack."""
        from robustbench_pcl.attacks import ATTACKS

        rows = [
            {"name": name, "norm": attack.norm, "what": first_line(attack)}
            for name, attack in ((name, ATTACKS[name]) for name in ATTACKS)
        ]
        print_rows(rows, self.form)


@dataclass(frozen=True, kw_only=True)
class ShowAttack(Sized):
    """Print an attack's parameters; each can be given as --set NAME=VALUE."""

    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The attack.", autocompletion=offered(attack_names)),
    ]
    dataset: DatasetOption = DEFAULT_DATASET
    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print a row per parameter, with its default on the data set."""
        from robustbench_pcl.data.datasets import dataset_spec
        from robustbench_pcl.recipes.load import load_attack

        attack = load_attack(self.name, self.dataset, self.size)
        complete = attack.dump()
        rows = [
            {"parameter": name, "default": complete[name], "what": what}
            for name, (_, what) in attack.parameters().items()
        ]
        where = f"{dataset_spec(self.dataset).title}, scale {self.size}"
        print_rows(rows, self.form, title=f"{first_line(type(attack))} Defaults on {where}:")


@dataclass(frozen=True, kw_only=True)
class ListModels:
    """List the models there are."""

    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print a row per model."""
        from robustbench_pcl.models import MODELS

        print_rows([{"name": name, "what": first_line(MODELS[name])} for name in MODELS], self.form)


@dataclass(frozen=True, kw_only=True)
class ShowModel:
    """Print a model's layers as Table 1 does, with the features that losses act on."""

    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The model.", autocompletion=offered(model_names))
    ]
    dataset: DatasetOption = DEFAULT_DATASET
    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print a row per layer."""
        from robustbench_pcl.data.datasets import dataset_spec
        from robustbench_pcl.models import MODELS
        from robustbench_pcl.recipes.load import load_recipe

        name, data = MODELS.check(self.name), dataset_spec(self.dataset)
        feature_layers = load_recipe("ours", self.dataset).feature_layers
        from robustbench_pcl.models.classifier import build_classifier  # torch, once names are good
        from robustbench_pcl.report.described import layers_of

        model = build_classifier(name, data.shape, len(data.classes), feature_layers=feature_layers)
        rows = []
        for layer in layers_of(model, data.shape):
            taken = "" if layer.branch is None else f"{layer.branch} -> {layer.features}".lstrip()
            rows.append(
                {
                    "layer": layer.number,
                    "modules": layer.modules,
                    "output": "x".join(map(str, layer.output)),
                    "parameters": layer.parameters,
                    "features": taken,
                }
            )
        total = sum(value.numel() for value in model.parameters())
        shape = "x".join(map(str, data.shape))
        title = f"{name} on {data.title} ({shape}): {total:,} parameters"
        print_rows(rows, self.form, title=title)
