"""Recipes and attacks by name, made complete once, where they enter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.configuration import Scalar, Scale, digest
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES
from robustbench_pcl.models import MODELS
from robustbench_pcl.recipe import Recipe, TrainingPrecision
from robustbench_pcl.recipes.build import MEMBERS, RecipeBuilder
from robustbench_pcl.recipes.presets import (
    PAPER_PRESETS,
    PRESETS,
    SIZES,
    SUFFIXES,
    is_recipe,
    loss_recipe,
)

LONGEST_NAME = 80
"""Characters of a recipe's name, which is part of the names of files."""

_FAMILIES = (LOSSES.members, DEFENSES.members, MODELS.members)
"""What the names of recipes may also be."""


def named(builder: RecipeBuilder, recipe: Recipe, paths: tuple[str, ...] = ()) -> Recipe:
    """The recipe, and the one that it starts from, under their own names.

    Args:
        builder: that made it.
        recipe: called after the name that it was made from.
        paths: of the fields that were changed ("schedule.epochs").
    """
    start = recipe.start
    if start:
        before = builder.plain(start.name, start.seed)
        start = named(builder, start, tuple(_differences(start.content(), before.content())))
    return recipe.changed(name=_name(builder, recipe, paths), start=start)


def _name(builder: RecipeBuilder, recipe: Recipe, paths: tuple[str, ...]) -> str:
    base = recipe.name
    if base in PAPER_PRESETS and not paths:
        return base
    mine = _apart_from_seed(recipe.identity, recipe.seed), recipe.inference
    for name in dict.fromkeys([*([base] if paths else []), *_alike(builder, recipe), base]):
        try:
            other = builder.plain(name, 0)
        except UserError:
            continue  # a recipe of the user's that cannot be made is no name for this one
        if (other.identity, other.inference) == mine:
            return name
    return _composed(recipe, builder.plain(base, recipe.seed), paths)


def _apart_from_seed(identity: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What decides the weights of a recipe with a seed, as it is with seed 0."""
    start = identity["start"]
    start = _apart_from_seed(start, seed) if start else None
    return {**identity, "seed": identity["seed"] - seed, "start": start}


def _alike(builder: RecipeBuilder, recipe: Recipe) -> Iterator[str]:
    """Names that may mean the same as a recipe, the paper's first."""
    yield from PRESETS
    training = recipe.adversarial_training
    if training and training.attack in SUFFIXES:
        yield from builder.mixed(training.attack)
        if is_recipe(f"{recipe.name}-{training.attack}"):
            yield f"{recipe.name}-{training.attack}"


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


def load_attack(
    name: str, dataset: str, scale: Scale = "quick", parameters: Mapping[str, object] = {}
) -> Attack:
    """An attack with every parameter.

    Defaults give way to the data set's budget (``eps``, or ``c``), that to what the scale changes,
    and that to what is given.

    Args:
        name: in the family of attacks.
        dataset: name of the data set.
        scale: how large.
        parameters: what is given; values may be text ("8/255").

    Raises:
        UserError: there is no such attack, data set or parameter, or a value is wrong for it.
    """
    data, attack = dataset_spec(dataset), ATTACKS[name]
    known = attack.model_fields
    if "eps" in parameters and "eps" not in known:
        raise UserError(
            f"{name} has no L-infinity budget.",
            f"Leave eps out; see pclbench attacks show {name}.",
        )
    if "eps" in known and parameters.get("norm") == "l2" and "eps" not in parameters:
        raise UserError(
            f"There is no usual L2 budget for {data.title}.",
            "Name one: --norm l2 --eps 0.5.",
        )
    budgets: dict[str, Scalar] = {"eps": data.eps, "c": data.carlini_wagner_c}
    budget = {key: value for key, value in budgets.items() if key in known}
    return attack.complete({**budget, **SIZES[scale].attacks.get(name, {}), **parameters})


def load_recipe(
    name: str,
    dataset: str,
    scale: Scale = "quick",
    seed: int = 0,
    *,
    set: Mapping[str, object] = {},  # noqa: A002 - as on the command line
) -> Recipe:
    """The complete recipe of a name, with changes.

    Args:
        name: a preset, a loss, a defence or a model; ``-fgsm`` or ``-pgd`` may follow.
        dataset: name of the data set.
        scale: how large.
        seed: of weights, order, augmentation and training attacks, also of the recipe that it
            starts from.
        set: changes: path of a field ("schedule.epochs", "loss.weight", "start.schedule.epochs")
            -> value, which may be text. Decays keep their place in proportion to the epochs.

    Returns:
        The recipe. It has the name of the preset that trains and answers the same, if there is
        one, and else says in its name what was changed: "ours+feature_layers=3,4".

    Raises:
        UserError: there is no such recipe, data set or field, or a value is wrong for it.
    """
    builder = _builder(dataset, scale, repr((PRESETS, *_FAMILIES)))
    start, changes = _layers(set)
    recipe = builder.build(name, {"seed": seed}, start, changes)
    return named(builder, recipe, (*start, *_leaves(changes)))


@lru_cache(maxsize=64)
def _builder(dataset: str, scale: Scale, known: str) -> RecipeBuilder:  # noqa: ARG001
    """The builder of a data set at a scale, as long as ``known``, what names mean, is the same."""
    return RecipeBuilder(dataset, scale)


def trained_with(
    dataset: str,
    scale: Scale = "quick",
    seed: int = 0,
    *,
    base: str | None = None,
    loss: str | None = None,
    layers: tuple[int, ...] | None = None,
    adv_train: str | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    precision: TrainingPrecision | None = None,
    set: Mapping[str, object] = {},  # noqa: A002 - as on the command line
) -> Recipe:
    """The recipe that ``pclbench train``'s options describe.

    Args:
        dataset: name of the data set.
        scale: how large.
        seed: as in :func:`load_recipe`.
        base: a recipe's name; None for the loss's.
        loss: name in the family of losses; None for cross-entropy.
        layers: where the loss acts; None for the loss's own choice.
        adv_train: an attack to train against (Algorithm 1); None for clean images only.
        epochs: of the recipe itself, not of the one that it starts from.
        learning_rate: of the recipe itself, at the start.
        precision: also of the recipe that it starts from.
        set: further changes, as in :func:`load_recipe`.

    Raises:
        UserError: a name or a value is wrong, or two options say the same thing.
    """
    if base and loss:
        raise UserError(
            f"The recipe {base} already says its loss.", "Leave --loss out, or --recipe."
        )
    name = base or loss_recipe(loss or CROSS_ENTROPY)
    starts = precision is not None and load_recipe(name, dataset, scale).start is not None
    options: dict[str, tuple[str, object]] = {
        "loss": ("--loss", None),
        "feature_layers": ("--layers", layers),
        "adversarial_training": ("--adv-train", adv_train),
        "schedule.epochs": ("--epochs", epochs),
        "schedule.learning_rate": ("--learning-rate", learning_rate),
        "schedule.precision": ("--precision", precision),
        "start.schedule.precision": ("--precision", precision if starts else None),
    }
    changes = {path: value for path, (_, value) in options.items() if value is not None}
    for path, (option, _) in options.items():
        same = path in set or (path in MEMBERS and f"{path}.{MEMBERS[path]}" in set)
        if same and (path in changes or (path == "loss" and loss)):
            raise UserError(f"{option} and --set {path} say the same thing.", "Leave one out.")
    return load_recipe(name, dataset, scale, seed, set={**changes, **set})


def describe(recipe: Recipe) -> str:
    """What sets a recipe apart, in a line: its defence or loss or model, and what is added."""
    defense, loss = DEFENSES[str(recipe.defense["name"])], LOSSES[str(recipe.loss["name"])]
    if defense.citation:
        words = f"{_first_line(defense)} {defense.citation}."
    elif recipe.loss["name"] != CROSS_ENTROPY:
        words = _first_line(loss)
    else:
        words = f"Cross-entropy on {recipe.model}."
    layers = ", ".join(map(str, recipe.feature_layers))
    other = recipe.model if recipe.model != dataset_spec(recipe.dataset).model else ""
    added = [
        f"On layer{'s' * (len(recipe.feature_layers) > 1)} {layers}." if layers else "",
        f"Model {other}." if other and other not in words else "",
        f"Adversarial training by {recipe.adversarial_training.attack}."
        if recipe.adversarial_training
        else "",
        f"{recipe.embedding} neurons before the logits." if recipe.embedding else "",
        "The nearest class mean or prototype decides." if recipe.inference == "nearest" else "",
    ]
    return " ".join(filter(None, [words, *added]))


def _first_line(member: type) -> str:
    return (member.__doc__ or "").partition("\n")[0]


def _layers(changes: Mapping[str, object]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Changes by path as layers: which recipe to start from, and all else."""
    start: dict[str, Any] = {}
    tree: dict[str, Any] = {}
    for path, value in changes.items():
        if path == "start" and isinstance(value, str):
            start[path] = value
            continue
        *parents, leaf = path.split(".")
        if leaf in MEMBERS and isinstance(value, str) and value != "none":
            parents, leaf = [*parents, leaf], MEMBERS[leaf]
        table = tree
        for key in parents:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise UserError(f"{key} and {path} say different things.", "Leave one out.")
        table[leaf] = value
    return start, tree


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The paths of all values in nested tables."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield above + key
