"""Tables 1 and 10: the networks layer by layer, as they are built here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.models import MODELS
from robustbench_pcl.models.classifier import Classifier
from robustbench_pcl.models.summary import Layer, describe, layers_of
from robustbench_pcl.recipes.load import load_recipe
from robustbench_pcl.report.described import DescribedTable
from robustbench_pcl.report.formatting import listed
from robustbench_pcl.training.build import build_model

ARROW = "→"


class Column(NamedTuple):
    """A network with its losses.

    Attributes:
        label: its heading.
        recipes: what is built; they may differ in a layer.
        loss: the symbol of their loss on features.
    """

    label: str
    recipes: tuple[str, ...]
    dataset: str
    loss: str


class Drawn(NamedTuple):
    """A layer as the paper draws it: the trunk, and beneath it the auxiliary branch, if any."""

    trunk: str
    branch: str = ""


def conformity_networks() -> DescribedTable:
    """Table 1: the networks of *ours* for grey and for colour images."""
    columns = (
        Column("6-Conv Model", ("ours",), "mnist", "L_PC"),
        Column("ResNet-110", ("ours",), "cifar10", "L_PC"),
    )
    return DescribedTable(
        number=1,
        caption=(
            "Layers as they are built, left for MNIST and F-MNIST, right for CIFAR-10 and SVHN; "
            "CIFAR-100 ends with FC(100). Brackets mark auxiliary branches."
        ),
        columns=("Layer", *(column.label for column in columns)),
        rows=_rows(columns),
        footnotes=_readings(columns),
    )


def other_networks() -> DescribedTable:
    """Table 10: the network of *ours* under the losses that it is compared with."""
    columns = (
        Column("Softmax supervision", ("deep-softmax",), "cifar10", "L_CE"),
        Column(
            "Center, contrastive or triplet loss",
            ("center", "contrastive", "triplet"),
            "cifar10",
            "L_Dist",
        ),
    )
    return DescribedTable(
        number=10,
        caption=(
            "Layers as they are built for CIFAR-10. L_Dist is any of the three losses. Brackets "
            "mark auxiliary branches."
        ),
        columns=("Layer", *(column.label for column in columns)),
        rows=_rows(columns),
        footnotes=_readings(columns),
    )


def _rows(columns: Sequence[Column]) -> tuple[tuple[str, ...], ...]:
    rows: list[tuple[str, ...]] = []
    for number, layer in enumerate(zip(*map(_drawn, columns), strict=True), 1):
        rows.append((str(number), *(drawn.trunk for drawn in layer)))
        if any(drawn.branch for drawn in layer):
            rows.append(("", *(drawn.branch for drawn in layer)))
    return tuple(rows)


def _drawn(column: Column) -> list[Drawn]:
    """The column's layers; what only some of its recipes have is said with their names."""
    built = {name: _network(name, column) for name in column.recipes}
    return [
        Drawn(
            _common({name: layers[index].trunk for name, layers in built.items()}),
            _common({name: layers[index].branch for name, layers in built.items()}),
        )
        for index in range(len(built[column.recipes[0]]))
    ]


def _common(words: Mapping[str, str]) -> str:
    variants = {text: [name for name in words if words[name] == text] for text in words.values()}
    if len(variants) == 1:
        return next(iter(variants))
    return "; ".join(f"{text} ({listed(names)} only)" for text, names in variants.items() if text)


def _network(recipe: str, column: Column) -> list[Drawn]:
    spec = dataset_spec(column.dataset)
    model = build_model(load_recipe(recipe, column.dataset, "paper"))
    assert isinstance(model.classifier, Classifier)  # there is no ensemble in these tables
    *layers, head = layers_of(model.classifier, spec.shape)
    losses = dict(model.criterion.losses.items())
    drawn = []
    for layer in layers:
        loss = losses.get(str(layer.number))
        own = describe(loss) if loss is not None and any(loss.children()) else ""
        drawn.append(_layer(layer, own, column.loss))
    last = f"{head.modules} {ARROW} L_CE" if model.criterion.with_cross_entropy else ""
    return [*drawn, Drawn(last)]


def _layer(layer: Layer, own: str, symbol: str) -> Drawn:
    """A layer with the loss on it; ``own`` are the loss's own modules."""
    if layer.branch is None:
        return Drawn(layer.modules)
    path = [part for part in (*layer.branch.split(" + "), own) if part]
    if not path:
        return Drawn(f"{layer.modules} {ARROW} {symbol}")
    return Drawn(layer.modules, f"({f' {ARROW} '.join([*path, symbol])})")


def _readings(columns: Sequence[Column]) -> tuple[str, ...]:
    """How the paper's drawings are read, as the models' own documentation says."""
    names = dict.fromkeys(
        load_recipe(recipe, column.dataset, "paper").model
        for column in columns
        for recipe in column.recipes
    )
    notes = []
    for name in names:
        _, _, reading = (inspect.getdoc(MODELS[name]) or "").partition("\n\n")
        notes.append(f"{name}: {' '.join(reading.replace('``', '').split())}")
    return tuple(notes)
