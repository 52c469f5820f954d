"""The models that a user names: recipes, checkpoints' files, and external models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_pcl.attacks import checks
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import Scale
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.lazy import LazyModule, torch
from robustbench_pcl.pipeline.artefacts import Artefacts
from robustbench_pcl.progress import counted
from robustbench_pcl.recipe import TORCHVISION, AnyModel, ExternalModel, Origin
from robustbench_pcl.recipes.load import load_recipe
from robustbench_pcl.recipes.presets import is_recipe, recipe_names
from robustbench_pcl.registry import new_name, plain_name
from robustbench_pcl.store.checkpoints import (
    Checkpoint,
    find_named,
    open_checkpoint,
    save_checkpoint,
    weights_digest,
)
from robustbench_pcl.store.records import load_measurements

if TYPE_CHECKING:
    from robustbench_pcl.models import external
    from robustbench_pcl.training import build
else:
    external = LazyModule("robustbench_pcl.models.external")
    build = LazyModule("robustbench_pcl.training.build")


def is_source(name: str) -> bool:
    """Whether a model is named by what makes it: a Python file, or torchvision."""
    return ".py" in (Path(name).suffix, Path(name.rpartition(":")[0]).suffix) or name.startswith(
        TORCHVISION
    )


def is_file(name: str) -> bool:
    """Whether a model is named by a file; no recipe's name has a dot or a slash."""
    return not is_source(name) and ("." in name or "/" in name)


def name_of(source: str) -> str:
    """What a model is called if nobody says so: "my-model-net" for "my_model.py:Net"."""
    file, _, attribute = source.rpartition(":")
    return plain_name(f"{Path(file).stem}-{attribute}")


def add_external(
    artefacts: Artefacts, origin: Origin, dataset: str, *, name: str = "", scale: Scale = "quick"
) -> ExternalModel:
    """Load a model that pclbench did not train, and store its weights as a checkpoint.

    The same once more finds what is stored.

    Args:
        artefacts: where it is stored.
        origin: where it comes from.
        dataset: name of the data set that it classifies.
        name: what it is called; made from the source if "".
        scale: decides how many images are attacked.

    Raises:
        UserError: it cannot be loaded, or its name is another model's.
    """
    spec = dataset_spec(dataset)
    name = name or name_of(origin.source)
    name = new_name("recipe or model", name, [name] if is_recipe(name) else [])
    loaded = external.load(origin)
    channels = spec.shape[0]
    for field, values in (("mean", loaded.mean), ("std", loaded.std)):
        if len(values) not in (0, 1, channels):
            raise UserError(
                f"--{field} has {len(values)} numbers, but images of {spec.title} have "
                f"{counted(channels, 'channel')}.",
                "Give --mean and --std one number, or one for each channel.",
            )
    arrays = build.arrays_of(loaded.network)
    folder = "" if loaded.source.name.startswith(TORCHVISION) else str(loaded.source.folder)
    model = ExternalModel(
        name=name,
        scale=scale,
        dataset=dataset,
        source=loaded.source.name,
        folder=folder,
        files=loaded.source.files,
        code=loaded.source.code,
        weights=weights_digest(arrays),
        mean=loaded.mean,
        std=loaded.std,
        output=loaded.output,
    )
    checkpoint = artefacts.checkpoint(model)
    if checkpoint is None:
        with TargetModel(loaded.model) as target:
            checks.check_logits(target, torch.full((2, *spec.shape), 0.5))
        _free(artefacts, model)
        checkpoint = save_checkpoint(artefacts.paths.checkpoints, model, model.id(), arrays)
        artefacts.open(checkpoint.path)
    return model


def _free(artefacts: Artefacts, model: ExternalModel) -> None:
    """Let a model have its name; another of that name gives way if nothing is known of it yet.

    Raises:
        UserError: the other was measured.
    """
    for other in find_external(artefacts, model.name, model.dataset):
        known = (record.target for record in load_measurements(artefacts.paths))
        if any(target.checkpoint == other.record.checkpoint for target in known):
            raise UserError(
                f"{model.name} was measured as another model, with {_difference(model, other)}: "
                f"{other.path}.",
                f"Give this one another name: --name {model.name}-2",
            )
        other.path.unlink(missing_ok=True)


def find_external(artefacts: Artefacts, name: str, dataset: str | None = None) -> list[Checkpoint]:
    """The stored external models of a name, of one data set or of any."""
    found = find_named(artefacts.paths.checkpoints, name)
    return [
        each
        for each in found
        if isinstance(each.record.recipe, ExternalModel)
        and dataset in (None, each.record.recipe.dataset)
    ]


def open_stored(artefacts: Artefacts, name: str, dataset: str | None) -> AnyModel | None:
    """The model that a checkpoint's file, or a stored external model's name, stands for.

    Returns:
        It; None where ``name`` is a recipe's or a source, or nothing's.

    Raises:
        UserError: the file is no checkpoint, or several models have the name.
    """
    if is_file(name):
        return artefacts.open(Path(name))
    found = [] if is_source(name) or is_recipe(name) else find_external(artefacts, name, dataset)
    if len(found) > 1:
        places = " and ".join(str(each.path) for each in found)
        raise UserError(
            f"Several models are called {name}: {places}.",
            "Name the file, or the data set: --dataset NAME.",
        )
    return artefacts.open(found[0].path) if found else None


def find_model(
    artefacts: Artefacts, name: str, dataset: str, scale: Scale, seed: int = 0
) -> AnyModel:
    """The model of a recipe's name, a stored external model's name, or a checkpoint's file.

    Args:
        artefacts: where checkpoints are.
        name: as a user names it.
        dataset: the model's data set.
        scale: the recipe's; of an external model it decides how many images are attacked.
        seed: of a recipe.

    Raises:
        UserError: there is no such model, or it is of another data set or scale.
    """
    model = open_stored(artefacts, name, dataset)
    if model is None:
        if not is_recipe(name):
            elsewhere = find_external(artefacts, name)
            if elsewhere:
                raise _of_another(name, elsewhere[0].record.recipe.dataset, dataset)
            known = [*recipe_names(), *_external_names(artefacts)]
            raise unknown_name("recipe or model", name, known)
        return load_recipe(name, dataset, scale, seed)
    if model.dataset != dataset:
        raise _of_another(name, model.dataset, dataset)
    if isinstance(model, ExternalModel):
        return model.changed(scale=scale)
    if model.scale != scale:
        raise UserError(
            f"{name} is a model at scale {model.scale}, not {scale}.",
            "Leave --scale out: a checkpoint's file says its own; "
            f'in a suite write scale = "{model.scale}".',
        )
    return model


def _of_another(name: str, dataset: str, asked: str) -> UserError:
    """The error for a model of another data set than what was asked for."""
    return UserError(
        f"{name} was trained on {dataset}, not on {asked}.",
        "Leave --dataset out, and name models of one data set.",
    )


def _external_names(artefacts: Artefacts) -> Iterator[str]:
    """The names of all stored external models."""
    for path in artefacts.paths.checkpoints.glob("[!.]*.safetensors"):
        with contextlib.suppress(UserError):  # of a damaged one: who asks for it is told
            model = open_checkpoint(path).record.recipe
            if isinstance(model, ExternalModel):
                yield model.name


def _difference(model: ExternalModel, other: Checkpoint) -> str:
    """In what two models of one name differ, in words."""
    theirs = other.record.recipe
    assert isinstance(theirs, ExternalModel)
    words = {
        "weights": "other weights",
        "code": "other code",
        "source": f"source {theirs.source}",
        "mean": "another mean",
        "std": "another std",
        "output": "another output",
    }
    return " and ".join(
        said for field, said in words.items() if getattr(model, field) != getattr(theirs, field)
    )
