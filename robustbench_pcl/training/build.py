"""Putting together the model that a recipe describes, fresh or from its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.losses.criterion import Criterion
from robustbench_pcl.models.classifier import Ensemble, build_classifier
from robustbench_pcl.models.supervised import SupervisedModel
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.store.checkpoints import Arrays, Checkpoint, load_arrays

MEMBER_SEED = 7_368_787
"""Between the seeds of an ensemble's members, so that no recipe's seed meets another's."""


def build_model(
    recipe: Recipe,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: torch.device | str = "cpu",
) -> SupervisedModel:
    """The recipe's model with fresh weights, in eval mode.

    Its channels come last: that is 1.5 to 1.8 times as fast, also on the CPU.

    Args:
        recipe: what to build.
        mean: of the pixels of each channel; None when a checkpoint will bring its own.
        std: of the pixels of each channel.
        device: where it goes.

    Raises:
        UserError: its parts are unknown or do not go together.
    """
    spec = dataset_spec(recipe.dataset)
    if recipe.members > 1 and recipe.feature_layers:
        raise UserError(
            f"{recipe.name} is an ensemble, and the loss {recipe.loss['name']} acts on one "
            "network.",
            "Take the defence by itself, or the loss without it.",
        )
    networks = [
        build_classifier(
            recipe.model,
            spec.shape,
            len(spec.classes),
            width=recipe.width,
            feature_layers=recipe.feature_layers,
            mean=mean,
            std=std,
            embedding=recipe.embedding,
            seed=(recipe.seed + MEMBER_SEED * member) % 2**63,
        ).eval()
        for member in range(recipe.members)
    ]
    defense = DEFENSES.read(recipe.defense)
    for network in networks:
        defense.initialise(network)
    dimensions = {}
    if recipe.feature_layers:
        with torch.no_grad():
            _, features = networks[0].features(torch.zeros(1, *spec.shape))
        dimensions = {layer: values.shape[1] for layer, values in features.items()}
    criterion = Criterion(recipe.loss, dimensions, len(spec.classes), recipe.seed)
    if not criterion.with_cross_entropy:
        networks[0].head = torch.nn.Identity()  # Table 10: no final fully connected layer
    model = SupervisedModel(
        Ensemble(networks) if recipe.members > 1 else networks[0],
        criterion,
        recipe.inference,
        defense.memory(len(spec.classes)),
    )
    # Not by .to(memory_format=...), which strides a convolution on grey images otherwise: its sums
    # would differ in their last bits.
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model.to(device).eval()


def as_trained(recipe: Recipe) -> Recipe:
    """The recipe that makes the weights: the same, deciding a class as its loss does.

    Training attacks and pseudo-labels go by the rule that decides a class, so with another rule
    they would make other weights, while the id says that the rule makes no difference.
    """
    by_logits = LOSSES[str(recipe.loss["name"])].with_cross_entropy
    own = "softmax" if by_logits else "nearest"
    if recipe.inference == own:
        return recipe
    name = recipe.name.removesuffix(f"-{recipe.inference}")
    return recipe.changed(inference=own, name=name)


def restore(checkpoint: Checkpoint, device: torch.device | str = "cpu") -> SupervisedModel:
    """The model of a checkpoint, in eval mode.

    Raises:
        UserError: the file is damaged, or its weights are another model's.
    """
    recipe = checkpoint.record.recipe
    assert isinstance(recipe, Recipe)  # others are restored as they came
    model = build_model(recipe, device=device)
    arrays = load_arrays(checkpoint.path, checkpoint.record.weights)
    try:
        model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    except RuntimeError as error:
        raise other_model(model, arrays, checkpoint.path) from error
    return model


def other_model(model: torch.nn.Module, arrays: Arrays, path: Path) -> UserError:
    """The error for arrays that are not a model's parameters and buffers: the first that differs.

    Args:
        model: whose they should be.
        arrays: what was found, by name.
        path: where.
    """
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(array.shape) for name, array in arrays.items()}
    names = sorted(own.keys() | given.keys())
    name = next(name for name in names if own.get(name) != given.get(name))
    return UserError(
        f"{path} holds another model's weights: {name} is {given.get(name, 'missing')} where "
        f"{own.get(name, 'nothing')} is expected.",
        "Move it away and train again with pclbench train.",
    )


def arrays_of(model: torch.nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    """A module's parameters and buffers by name, on the CPU."""
    return {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
