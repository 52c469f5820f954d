"""Recipes and attacks by name, made complete once, where they enter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.configuration import Scalar, Scale
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES
from robustbench_pcl.recipe import Recipe, TrainingPrecision
from robustbench_pcl.recipes.build import MEMBERS, RecipeBuilder
from robustbench_pcl.recipes.naming import named
from robustbench_pcl.recipes.presets import (
    add_recipes,
    check_recipe,
    is_recipe,
    load_recipes,
    loss_recipe,
    preset,
    recipe_names,
)
from robustbench_pcl.recipes.scales import attack_parameters

__all__ = [
    "add_recipes",
    "check_recipe",
    "describe",
    "is_recipe",
    "load_attack",
    "load_recipe",
    "load_recipes",
    "loss_recipe",
    "preset",
    "recipe_names",
    "trained_with",
]


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
    budgets: dict[str, Scalar] = {"eps": data.eps, "c": data.carlini_wagner_c}
    budget = {key: value for key, value in budgets.items() if key in known}
    return attack.complete({**budget, **attack_parameters(scale, name), **parameters})


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
    builder = RecipeBuilder(dataset, scale)
    start, changes = _layers(set)
    recipe = builder.build(name, {"seed": seed}, start, changes)
    return named(builder, recipe, (*start, *_leaves(changes)))


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
    added = [
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
