"""``pclbench data``, ``recipes``, ``attacks`` and ``models``: what there is, by name."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_pcl.cli.choices import (
    Format,
    attack_names,
    dataset_names,
    model_names,
    offered,
    recipe_names,
)
from robustbench_pcl.cli.options import (
    DEFAULT_DATASET,
    DatasetOption,
    FormatOption,
    Seeds,
    Sized,
)
from robustbench_pcl.cli.output import first_line, print_document, print_rows, say
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.data.datasets import DatasetSpec

NOT_HERE = "not here"
NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Name of the data set.", autocompletion=offered(dataset_names)
    ),
]
OptionalNameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="Name of the data set; all if left out.",
        autocompletion=offered(dataset_names),
    ),
]


@dataclass(frozen=True, kw_only=True)
class ListData:
    """List the data sets, and which of them are on this machine."""

    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print a row per data set."""
        from robustbench_pcl.data.datasets import DATASETS

        rows = [_row(spec) for spec in DATASETS.values()]
        if self.form is Format.text:
            print_rows([_for_people(row) for row in rows], title="Data sets")
        else:
            print_document("datasets", rows, self.form)
        if any(row["provenance"] == NOT_HERE for row in rows):
            say(
                "What is not here is looked for when it is first used. "
                "To add a copy of your own: pclbench data add NAME FILE"
            )


@dataclass(frozen=True, kw_only=True)
class AddData:
    """Put a data set into the cache, in place of what was there."""

    name: NameArgument
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="Zip, tar.gz or folder with <split>/<class>/<id>.png, or the four IDX files; "
            "if left out, the data set is looked for again, on this machine and on the network.",
        ),
    ] = None
    data_root: Annotated[
        Path | None, typer.Option(help="Folder with files in torchvision's layout.")
    ] = None

    def __call__(self) -> None:
        """Read it and say what was found."""
        from robustbench_pcl.data import loader

        found = (
            loader.fetch(self.name, self.data_root)
            if self.file is None
            else loader.add(self.name, self.file)
        )
        counts = f"{len(found.train):,} training and {len(found.test):,} test images"
        note = f" ({found.provenance.note})" if found.provenance.note else ""
        say(f"{found.spec.title}: {counts} from {found.provenance.source}{note}.")


@dataclass(frozen=True, kw_only=True)
class VerifyData:
    """Read cached images again, and compare them with their digests."""

    name: OptionalNameArgument = None
    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print a row per data set that is intact."""
        from robustbench_pcl.data.dataset import verify
        from robustbench_pcl.data.datasets import DATASETS, dataset_spec

        wanted = [dataset_spec(self.name)] if self.name else list(DATASETS.values())
        found = [dataset for spec in wanted if (dataset := verify(spec))]
        if self.name and not found:
            raise UserError(
                f"{dataset_spec(self.name).title} is not in the cache.",
                f"Add it: pclbench data add {self.name} [FILE]",
            )
        rows = [
            {
                "dataset": dataset.spec.name,
                "train_digest": dataset.train.digest,
                "test_digest": dataset.test.digest,
            }
            for dataset in found
        ]
        print_document("intact", rows, self.form, title="Intact")


@dataclass(frozen=True, kw_only=True)
class DataPath:
    """Print the folder where data sets are cached, or that of one of them."""

    name: OptionalNameArgument = None

    def __call__(self) -> None:
        """Print it."""
        from robustbench_pcl.data.dataset import cache_root
        from robustbench_pcl.data.datasets import dataset_spec

        print(cache_root() / dataset_spec(self.name).name if self.name else cache_root())


def _row(spec: "DatasetSpec") -> dict[str, Any]:
    from robustbench_pcl.data.dataset import read_info

    where, note = NOT_HERE, ""
    train, test = spec.train_images, spec.test_images
    try:
        if info := read_info(spec):
            where, note = info.provenance.source, info.provenance.note
            train, test = info.train.count, info.test.count
    except UserError as error:  # one broken data set must not hide the others
        where, note = "broken", error.cure
    return {
        "dataset": spec.name,
        "title": spec.title,
        "shape": "x".join(map(str, spec.shape)),
        "train_images": train,
        "test_images": test,
        "provenance": where,
        "note": note,
    }


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose provenance ends in the note: two columns of sentences would not fit."""
    note = f": {row['note']}" if row["note"] else ""
    shown = {name: value for name, value in row.items() if name != "note"}
    return {**shown, "provenance": f"{row['provenance']}{note}"}


@dataclass(frozen=True, kw_only=True)
class ListRecipes:
    """List the recipes there are, with what sets each apart."""

    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print a row per recipe."""
        from robustbench_pcl.recipes.load import describe, load_recipe

        rows = [
            {"name": name, "summary": describe(load_recipe(name, "cifar10", "paper"))}
            for name in recipe_names()
        ]
        print_document("recipes", rows, self.form)


@dataclass(frozen=True, kw_only=True)
class ShowRecipe(Seeds):
    """Print all fields of a recipe, as JSON.

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

        for seed in self.seeds:
            recipe = load_recipe(self.name, self.dataset, self.size, seed)
            print(json.dumps(recipe.content(), indent=2))


@dataclass(frozen=True, kw_only=True)
class ListAttacks:
    """List the attacks there are."""

    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print a row per attack."""
        from robustbench_pcl.attacks import ATTACKS
        from robustbench_pcl.attacks.base import norm_of

        rows = [
            {"name": name, "norm": norm_of({"name": name}), "summary": first_line(ATTACKS[name])}
            for name in ATTACKS
        ]
        print_document("attacks", rows, self.form)


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
        rows = [
            {"name": name, "default": getattr(attack, name), "summary": what}
            for name, (_, what) in attack.parameters().items()
        ]
        where = f"{dataset_spec(self.dataset).title}, scale {self.size}"
        title = f"{first_line(type(attack))} Defaults on {where}:"
        print_document("parameters", rows, self.form, title=title)


@dataclass(frozen=True, kw_only=True)
class ListModels:
    """List the models there are."""

    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print a row per model."""
        from robustbench_pcl.models import MODELS

        rows = [{"name": name, "summary": first_line(MODELS[name])} for name in MODELS]
        print_document("architectures", rows, self.form)


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
                    "shape": "x".join(map(str, layer.output)),
                    "weights_count": layer.parameters,
                    "features": taken,
                }
            )
        total = sum(value.numel() for value in model.parameters())
        shape = "x".join(map(str, data.shape))
        title = f"{name} on {data.title} ({shape}): {total:,} parameters"
        print_document("layers", rows, self.form, title=title)
