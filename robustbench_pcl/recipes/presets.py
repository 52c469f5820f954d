"""Presets and scales: the names that recipes have, what they say, and how large they are."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from copy import deepcopy
from fractions import Fraction
from graphlib import CycleError, TopologicalSorter
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from robustbench_pcl.configuration import SCALES, Count, Description, Scalar, Scale
from robustbench_pcl.data.datasets import DatasetSpec
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.models import MODELS
from robustbench_pcl.registry import new_name
from robustbench_pcl.store.reading import LARGEST_TOML, parse_toml, read_bounded

Length = Literal["whole", "first", "joint", "metric", "source"]
"""Which number of epochs: of a whole training from fresh weights, of cross-entropy before a joint
loss (T'), of the joint loss, of a loss on pairs or triplets alone, or of VGG-19."""


class PerColour(Description):
    """A number for data sets of grey images, and one for colour."""

    grey: float
    colour: float

    def of(self, data: DatasetSpec) -> float:
        """The one for a data set."""
        return self.colour if data.shape[0] == 3 else self.grey


class Sizes(Description):
    """The sizes of one scale.

    Attributes:
        in_place_of: models that smaller ones stand for: name -> the smaller one's.
        width: factor on a model's channel counts; residual networks get fewer blocks instead.
        widths: the same of models that have their own: name -> factor.
        train_images: training images used, the first ones; all if None.
        attacked_images: test images attacked, the first ones; all if None.
        epochs: of each length.
        schedule: what all trainings share, where it is not a schedule's default.
        mixing_steps: steps of an iterative attack whose images join each batch (Algorithm 1).
        min_max_steps: steps of an iterative attack that a defence makes itself.
        attacks: parameters of attacks that differ from Table 2: attack -> parameter -> value.
    """

    in_place_of: dict[str, str] = Field(default_factory=dict)
    width: PerColour
    widths: dict[str, float] = Field(default_factory=dict)
    train_images: Count | None = None
    attacked_images: Count | None = None
    epochs: dict[Length, PerColour]
    schedule: dict[str, Scalar] = Field(default_factory=dict)
    mixing_steps: Count
    min_max_steps: Count
    attacks: dict[str, dict[str, Scalar]] = Field(default_factory=dict)

    def width_of(self, model: str, data: DatasetSpec) -> float:
        """The factor on a model's channel counts."""
        return self.widths.get(model, self.width.of(data))

    def schedule_of(self, length: Length, data: DatasetSpec) -> dict[str, Any]:
        """The epochs of a length, and after which of them the learning rate drops."""
        epochs = int(self.epochs[length].of(data))
        return {
            "epochs": epochs,
            "milestones": [int(epochs * share) for share in MILESTONES[length]],
        }


_STORED = tomllib.loads((resources.files(__package__) / "scales.toml").read_text(encoding="utf-8"))

SIZES: dict[Scale, Sizes] = {scale: Sizes.model_validate(_STORED[scale]) for scale in SCALES}

MILESTONES: dict[Length, list[Fraction]] = {
    length: [Fraction(share) for share in shares]
    for length, shares in _STORED["milestones"].items()
}
"""Shares of a length's epochs after which the learning rate drops."""


Layer = Mapping[str, Any]
"""What a recipe differs in from its base: the keys that ``presets.toml`` explains."""

PRESETS: dict[str, Layer] = tomllib.loads(
    (resources.files(__package__) / "presets.toml").read_text(encoding="utf-8")
)
"""What presets say, by name: the paper's, and those that :func:`add_recipes` added."""

PAPER_PRESETS = tuple(PRESETS)
"""The names of ``presets.toml``."""

MOST_RECIPES, MOST_BASES = 1000, 50
"""Recipes in one file, and recipes that one rests on, each on the next."""

SUFFIXES = ("fgsm", "pgd")
"""Attacks whose name may follow any recipe's: their images join each batch."""


def recipe_names() -> list[str]:
    """All presets, and the losses, defences and models that have none."""
    members = [*(loss_recipe(loss) for loss in LOSSES), *DEFENSES, *MODELS]
    return [name for name in dict.fromkeys([*PRESETS, *members]) if name != "none"]


def is_recipe(name: str) -> bool:
    """Whether there is a recipe of that name."""
    try:
        check_recipe(name)
    except UserError:
        return False
    return True


def check_recipe(name: str) -> str:
    """Return ``name`` if it is a recipe's; nothing of the recipe is made.

    Raises:
        UserError: it is not; the message suggests the nearest names.
    """
    layers(name)
    return name


def layers(name: str) -> tuple[Layer, ...]:
    """What the recipe of that name is made of: its base's layers, then its own.

    Raises:
        UserError: there is no such recipe.
    """
    own = dict(_layer(name))
    base = own.pop("base", None)
    return (*layers(base), own) if base else (own,)


def loss_recipe(loss: str) -> str:
    """The name of the recipe that trains with a loss.

    Raises:
        UserError: there is no such loss.
    """
    LOSSES.check(loss)
    spelled = (name for name in PAPER_PRESETS if PRESETS[name].get("loss") == loss)
    return next(spelled, loss)


def load_recipes(path: Path) -> None:
    """Add the recipes of a TOML file, a table for each, in the form of ``presets.toml``.

    Raises:
        UserError: the file cannot be read, or its recipes cannot be added.
    """
    content = read_bounded(path, LARGEST_TOML, "file of recipes")
    add_recipes(parse_toml(content, f"{path} is not TOML", "Correct it there."), str(path))


def add_recipes(tables: Mapping[str, Any], where: str) -> None:
    """Add recipes, which are then names like any other; the same once more changes nothing.

    Args:
        tables: what each differs in from its base (*softmax* if it names none), by name.
        where: where they come from, for errors.

    Raises:
        UserError: a name is taken or cannot be one, a base is unknown, or two recipes are based on
            each other.
    """
    new: dict[str, Layer] = {}
    if len(tables) > MOST_RECIPES:
        cause = f"{where} has {len(tables):,} recipes."
        raise UserError(cause, f"Write at most {MOST_RECIPES} into one file.")
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise UserError(f"{where}: {name} is not a table.", "Write [my-recipe] above its keys.")
        own: Layer = {"base": "softmax", **deepcopy(dict(table))}
        if not isinstance(own["base"], str):
            raise UserError(f"{where}: {name}: base is not a name.", 'Write base = "softmax".')
        if PRESETS.get(name) != own:
            new[new_name("recipe", name, [name] if is_recipe(name) else [])] = own
    try:
        TopologicalSorter({name: _named_in(own) for name, own in new.items()}).prepare()
    except CycleError as error:
        raise UserError(
            f"{where}: {' and '.join(dict.fromkeys(error.args[1]))} are based on each other.",
            "Base one of them on an existing recipe: pclbench recipes list.",
        ) from error
    PRESETS.update(new)
    try:
        for name in new:
            _check_depth(name)
        for other in chain.from_iterable(map(_named_in, new.values())):
            check_recipe(other)
    except UserError as error:
        for name in new:
            del PRESETS[name]
        raise UserError(f"{where}: {error.cause}", error.cure) from error


def _check_depth(name: str) -> None:
    """Check that what a recipe is based on ends soon; there are no circles.

    Raises:
        UserError: it does not.
    """
    level = {name}
    for _ in range(MOST_BASES):
        level = {other for each in level for other in _named_in(PRESETS.get(each, {}))}
        if not level:
            return
    cause = f"{name} is based on a recipe that is based on a recipe, more than {MOST_BASES} times."
    raise UserError(cause, "Base it on one that is nearer to its end.")


def _named_in(layer: Layer) -> list[str]:
    """The recipes that a layer names."""
    return [layer[key] for key in ("base", "start") if isinstance(layer.get(key), str)]


def _layer(name: str) -> Layer:
    """What the recipe of that name differs in from its base: as spelled out, or by rule.

    Raises:
        UserError: there is no such recipe, or the name means two things.
    """
    spelled = PRESETS.get(name, {})
    found = [layer for layer in _by_rule(name) if not layer.items() <= spelled.items()]
    if name in PRESETS:
        found.append(PRESETS[name])
    stem, _, attack = name.rpartition("-")
    if name not in PRESETS and attack in SUFFIXES and _on_clean_images(stem):
        found.append({"base": stem, "adversarial_training": attack})
    if not found:
        raise unknown_name("recipe", name, recipe_names())
    if len(found) > 1:
        raise UserError(
            f"{name!r} is the name of two things, and a recipe's name could mean either.",
            "Give yours another name.",
        )
    return found[0] if name in PRESETS else {"base": _base_of(found[0]), **found[0]}


def _on_clean_images(name: str) -> bool:
    """Whether there is a recipe of that name to which adversarial training can be added."""
    return is_recipe(name) and not any("adversarial_training" in own for own in layers(name))


def _by_rule(name: str) -> list[Layer]:
    """What a loss, a defence and a model of that name add to their base, as recipes."""
    found: list[Layer] = []
    if name in LOSSES and loss_recipe(name) == name:
        found.append({"loss": name})
    if name in DEFENSES and name != "none":
        found.append({"defense": name})
    if name in MODELS:
        found.append({"model": name})
    return found


def _base_of(layer: Layer) -> str:
    """What a member is added to: a loss to Ours, or to the triplet loss's recipe if it is alone."""
    if "loss" in layer:
        return "ours" if LOSSES[layer["loss"]].with_cross_entropy else "triplet"
    return "softmax"
