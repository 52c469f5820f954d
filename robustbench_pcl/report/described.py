"""The tables of the paper that describe rather than measure, from the code itself: 1, 2 and 10."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import attack_label, norm_of
from robustbench_pcl.configuration import SCALES
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.errors import unknown_name
from robustbench_pcl.lazy import LazyModule, nn, torch
from robustbench_pcl.models import MODELS
from robustbench_pcl.recipes.load import load_recipe
from robustbench_pcl.recipes.presets import SIZES
from robustbench_pcl.report.formatting import listed

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_pcl.models import classifier
    from robustbench_pcl.training import build
else:
    classifier = LazyModule("robustbench_pcl.models.classifier")
    build = LazyModule("robustbench_pcl.training.build")

TITLES = {
    1: "Networks, and where the Prototype Conformity Loss acts",
    2: "Attacks",
    10: "ResNet-110 with other losses, and where they act",
}
"""The tables there are, by the paper's number. Making 1 and 10 imports torch."""
PAPER_ATTACKS = ("fgsm", "bim", "mim", "cw", "pgd")
"""In the order of the paper's Table 2."""
NOTATION = {
    "relative_step_size": "α",
    "learning_rate": "learning rate",
    "steps": "i",
    "momentum": "μ",
    "confidence": "κ",
}
"""Parameters that the paper has a sign for, in its order."""
NORMS = {"linf": "ℓ∞", "l2": "ℓ2", "l0": "ℓ0"}
ELSEWHERE = ("eps", "c", "loss", "norm")
"""What the tables of results give, budgets and what is maximised, and what has its own column."""
ARROW = "→"


@dataclass(frozen=True)
class DescribedTable:
    """A table of words, ready to be rendered.

    Attributes:
        number: the paper's.
        caption: what the entries are.
        columns: from left to right.
        rows: from top to bottom, one entry per column.
        footnotes: sentences.
    """

    number: int
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footnotes: tuple[str, ...]

    @property
    def title(self) -> str:
        """What it is about."""
        return TITLES[self.number]

    def only(self, columns: Sequence[str]) -> DescribedTable:
        """The table with the columns of some names, in its order; with all if there are none.

        Raises:
            UserError: there is no such column.
        """
        known = {name.casefold(): place for place, name in enumerate(self.columns)}
        for name in columns:
            if name.casefold() not in known:
                raise unknown_name("column", name, self.columns)
        wanted = {known[name.casefold()] for name in columns} or set(known.values())
        places = sorted(wanted)
        rows = tuple(tuple(row[place] for place in places) for row in self.rows)
        return replace(self, columns=tuple(self.columns[at] for at in places), rows=rows)


def described_table(number: int) -> DescribedTable:
    """A table of :data:`TITLES`.

    Raises:
        UserError: there is no such table.
    """
    makers = {1: conformity_networks, 2: attack_settings, 10: other_networks}
    if number not in makers:
        raise unknown_name("table", str(number), map(str, makers))
    return makers[number]()


def attack_settings() -> DescribedTable:
    """Table 2: the paper's attacks first, then the family's others."""
    names = dict.fromkeys([*PAPER_ATTACKS, *ATTACKS])
    return DescribedTable(
        number=2,
        caption=(
            "Defaults of the attacks: for a budget ε, α is the step size, i the number of steps, μ "
            "the decay factor of the momentum, κ the logit margin to reach."
        ),
        columns=("Attack", "Parameters", "Norm"),
        rows=tuple(
            (attack_name(name), ", ".join(_defaults(name)), NORMS[norm_of({"name": name})])
            for name in names
        ),
        footnotes=tuple(
            f"{attack_name(name)} at {scale} scale: "
            f"{', '.join(map(_value, changed, changed.values()))}."
            for scale in SCALES
            for name in names
            if (changed := SIZES[scale].attacks.get(name))
        ),
    )


def attack_name(name: str) -> str:
    """An attack's name as papers write it, without parameters."""
    label, _, _ = attack_label({"name": name}).partition(",")
    return label


def _defaults(name: str) -> Iterator[str]:
    """Each parameter and its default: those with a sign first."""
    known = ATTACKS[name].parameters().items()
    fields = ATTACKS[name].model_fields
    # What came later than an attack's stored sets came later than the paper.
    defaults = {key: default for key, (default, _) in known if fields[key].exclude_if is None}
    for key in dict.fromkeys([*(sign for sign in NOTATION if sign in defaults), *defaults]):
        if key not in ELSEWHERE:
            yield _value(key, defaults[key])


def _value(name: str, value: Any) -> str:
    """A parameter and its value; a step size as a share of the budget, "α = ε/10"."""
    shown = str(value)
    if name == "relative_step_size":
        parts = 1 / value
        shown = f"ε/{parts:.0f}" if math.isclose(parts, round(parts)) else f"{value:g} ε"
        shown = "ε" if value == 1 else shown
    return f"{NOTATION.get(name, name.replace('_', ' '))} = {shown}"


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
    model = build.build_model(load_recipe(recipe, column.dataset, "paper"))
    assert isinstance(
        model.classifier, classifier.Classifier
    )  # there is no ensemble in these tables
    *layers, head = layers_of(model.classifier, spec.shape)
    losses = dict(model.criterion.losses.items())
    drawn = []
    for layer in layers:
        loss = losses.get(str(layer.number))
        own = describe(loss) if loss is not None and any(loss.children()) else ""
        drawn.append(_with_loss(layer, own, column.loss))
    last = f"{head.modules} {ARROW} L_CE" if model.criterion.with_cross_entropy else ""
    return [*drawn, Drawn(last)]


def _with_loss(layer: Layer, own: str, symbol: str) -> Drawn:
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


@dataclass(frozen=True)
class Layer:
    """One numbered layer of a model.

    Attributes:
        number: Table 1's.
        modules: in Table 1's words.
        output: shape of what it passes on, for one image.
        parameters: how many it learns.
        branch: what its features pass through before a loss takes them, "" if nothing; None where
            no loss takes them.
        features: how many a loss takes, or None.
    """

    number: int
    modules: str
    output: tuple[int, ...]
    parameters: int
    branch: str | None = None
    features: int | None = None


def layers_of(model: classifier.Classifier, shape: tuple[int, int, int]) -> list[Layer]:
    """The numbered layers and, last, the head that gives the logits.

    Args:
        model: any classifier; its feature layers are those that a loss takes features from.
        shape: of an image, (channels, height, width).
    """
    layers: list[Layer] = []
    model.eval()
    with torch.no_grad():
        output: Tensor = torch.zeros(1, *shape)
        for number, module in enumerate(model.layers, start=1):
            output = module(output)
            layer = _layer(number, module, output)
            if str(number) in model.branches:
                branch = model.branches[str(number)]
                pooled = isinstance(branch, classifier.GlobalAveragePool) and output.ndim == 2
                words = "" if pooled else describe(branch)
                layer = replace(layer, branch=words, features=branch(output).shape[1])
            layers.append(layer)
        layers.append(_layer(len(layers) + 1, model.head, model.head(output)))
    return layers


def describe(module: nn.Module) -> str:
    """A module in Table 1's words: ``Conv(64, 3x3) + BN``; repeated runs are counted."""
    words = [_words(leaf) for leaf in _leaves(module)]
    return _fold([word for word in words if word])


def _layer(number: int, module: nn.Module, output: Tensor) -> Layer:
    parameters = sum(value.numel() for value in module.parameters())
    return Layer(number, describe(module), tuple(output.shape[1:]), parameters)


def _leaves(module: nn.Module) -> list[nn.Module]:
    """The modules without children, in order; a residual block's shortcut is left out."""
    children = [child for name, child in module.named_children() if name != "downsample"]
    return [leaf for child in children for leaf in _leaves(child)] if children else [module]


def _words(module: nn.Module) -> str:
    match module:
        case nn.Conv2d():
            size = "x".join(map(str, module.kernel_size))
            return f"Conv({module.out_channels}, {size})"
        case nn.Linear():
            return f"FC({module.out_features})"
        case nn.BatchNorm2d():
            return "BN"
        case nn.MaxPool2d():
            return "MaxPool"
        case nn.Identity():
            return ""
        case _:
            return {"GlobalAveragePool": "GAP"}.get(type(module).__name__, type(module).__name__)


def _fold(parts: list[str]) -> str:
    """``a + b + a + b`` as ``[a + b] x 2``, for the longest run from each position."""
    folded: list[str] = []
    start = 0
    while start < len(parts):
        length, times = _repeat(parts[start:])
        run = " + ".join(parts[start : start + length])
        folded.append(run if times == 1 else f"[{run}] x {times}")
        start += length * times
    return " + ".join(folded)


def _repeat(parts: list[str]) -> tuple[int, int]:
    """Length and number of repeats of the run at the front that covers the most."""
    best = (1, 1)
    for length in range(1, len(parts) // 2 + 1):
        times = 1
        while parts[length * times : length * (times + 1)] == parts[:length]:
            times += 1
        if times > 1 and length * times > best[0] * best[1]:
            best = (length, times)
    return best
