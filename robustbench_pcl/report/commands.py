"""The commands that make stored numbers again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from robustbench_pcl.configuration import Dump, Mode
from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import AnyModel, ExternalModel, Recipe
from robustbench_pcl.recipes.load import load_attack, load_recipe
from robustbench_pcl.recipes.presets import is_recipe
from robustbench_pcl.report.results import Record
from robustbench_pcl.store.checkpoints import checkpoint_name
from robustbench_pcl.store.records import ModelRecord


def command_of(record: Record) -> str:
    """The command that makes a measurement again; "" where none does."""
    seed = int(record.attack_seed)
    name = model_name(record.recipe, seed, record.checkpoint, record.weights)
    options = ["--dataset", record.dataset, "--scale", record.scale]
    options += ["--images", str(record.n), "--seed", str(seed)]
    if not record.parameters:
        return _command(["attack", name, *options, "--attack", "fgsm"])
    if record.source is None:
        return ""
    source = name if record.white_box else model_name(record.source_recipe, seed)
    try:
        attack = attack_options(record.parameters, record.source_recipe)
    except UserError:  # of a plugin that is not loaded
        return ""
    target = None if record.white_box else name
    return _command(attack_words(source, target, [*options, *attack], record.mode))


def training_command(recipe: Recipe) -> str:
    """The command that trains a recipe again; "" where its name no longer means it."""
    return _command(training_words(recipe) if is_preset(recipe) else [])


def _command(words: Sequence[str]) -> str:
    return shlex.join(["pclbench", *words]) if words else ""


def model_name(recipe: AnyModel, seed: int, checkpoint: str = "", weights: str = "") -> str:
    """What a command calls a model: by its name where that means no other, else by its file.

    Args:
        recipe: of the model.
        seed: that the command gives, of training and attack.
        checkpoint: the model's, or "" where it is not known.
        weights: their digest, or "" where it is not known.
    """
    if isinstance(recipe, ExternalModel) or not checkpoint:
        return recipe.name
    if is_preset(recipe) and recipe.seed == seed:
        return recipe.name
    model = ModelRecord(checkpoint=checkpoint, weights=weights, recipe=recipe)
    return f"checkpoints/{checkpoint_name(model)}"


def is_preset(recipe: AnyModel) -> bool:
    """Whether a recipe's name still means that recipe."""
    if isinstance(recipe, ExternalModel) or not is_recipe(recipe.name):
        return False
    known = load_recipe(recipe.name, recipe.dataset, recipe.scale, recipe.seed)
    return (known.identity, known.inference) == (recipe.identity, recipe.inference)


def training_words(recipe: Recipe) -> list[str]:
    """What trains a recipe."""
    words = ["train", recipe.dataset, "--recipe", recipe.name, "--scale", recipe.scale]
    return [*words, "--seed", str(recipe.seed)]


def attack_options(attack: Dump, source: AnyModel) -> list[str]:
    """An attack with each parameter that is not as usual, as options.

    Raises:
        UserError: there is no such attack.
    """
    name = str(attack["name"])
    usual = load_attack(name, source.dataset, source.scale).dump()
    changed = {key: value for key, value in attack.items() if usual.get(key) != value}
    pairs = (f"{key}={_setting(value)}" for key, value in changed.items())
    return ["--attack", name, *(word for pair in pairs for word in ("--set", pair))]


def _setting(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def attack_words(source: str, target: str | None, options: Sequence[str], mode: Mode) -> list[str]:
    """What makes a set and measures a target on it; nothing where no command does that.

    Args:
        source: what a command calls the model that is attacked.
        target: the same for the one that is measured, if it is another.
        options: data set, scale, images, seed and attack.
        mode: how the images are made.
    """
    exact = ["--exact"] if mode == "exact" else []
    if target is None and mode != "fast":
        return ["attack", source, *options, *exact]
    if mode == "early-stop":
        return []  # a model is judged on others' images of that kind by the way
    return ["transfer", "--source", source, "--target", target or source, *options, *exact]
