"""The recipes that others are derived from: one a loss, one a model, each at three scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES
from robustbench_pcl.models import MODELS
from robustbench_pcl.recipes.scales import SIZES
from robustbench_pcl.specs.base import Part, Scalar
from robustbench_pcl.specs.names import Scale
from robustbench_pcl.specs.recipe import Recipe, Schedule

TAPS = (3, 4, 5)
"""The layers of Table 1 that carry L_PC."""

LOSS_PARAMETERS: Mapping[str, dict[str, Scalar]] = {
    "pcl": {"separation": 4.0, "weight": 1.0},
    "pcl-authors": {"repulsion": 1e-4, "weight": 1.0},
    "deep-softmax": {"weight": 1.0},
    "center": {"alpha": 0.5, "weight": 0.003},
    "contrastive": {"margin": 3.0, "alpha": 0.5, "weight": 1.0},
    "triplet": {"margin": 3.0, "alpha": 0.5, "weight": 1.0},
}
"""The losses' defaults, written out so that a checkpoint's id changes when one of them does."""

Make = Callable[[DatasetSpec, Scale], Recipe]


def softmax(spec: DatasetSpec, scale: Scale) -> Recipe:
    """Cross-entropy alone: Algorithm 1's first T' epochs."""
    sizes = SIZES[scale]
    epochs = sizes.first[_colour(spec)]
    return Recipe(
        name="softmax",
        scale=scale,
        dataset=spec.name,
        model=sizes.residual if spec.model == "resnet110" else spec.model,
        width=1.0 if _colour(spec) else sizes.width,
        train_images=sizes.train_images,
        schedule=_decaying(sizes.schedule, epochs, epochs * 3 // 4, epochs * 9 // 10),
    )


def deeply_supervised(
    spec: DatasetSpec, scale: Scale, *, name: str, loss: str, taps: tuple[int, ...] = TAPS
) -> Recipe:
    """Softmax, then a joint loss at rate 0.1, x0.1 after epochs 200 and 250 of 300 (Section 6)."""
    sizes = SIZES[scale]
    epochs = sizes.joint[_colour(spec)]
    start = softmax(spec, scale)
    return changed(
        start,
        name=name,
        loss=_loss(loss),
        taps=taps,
        start=start,
        schedule=_decaying(sizes.schedule, epochs, epochs * 2 // 3, epochs * 5 // 6),
    )


def _metric(spec: DatasetSpec, scale: Scale, *, name: str) -> Recipe:
    """A loss on pairs or triplets alone: no FC-10, so the nearest class mean decides.

    Section 6.3 and Table 10. Table 12 counts 400 epochs, which are read as from fresh weights.
    """
    sizes = SIZES[scale]
    epochs = sizes.metric[_colour(spec)]
    return changed(
        softmax(spec, scale),
        name=name,
        loss=_loss(name),
        taps=TAPS,
        inference="nearest",
        schedule=_decaying(sizes.schedule, epochs, epochs * 2 // 3, epochs * 5 // 6),
    )


def _authors(spec: DatasetSpec, scale: Scale) -> Recipe:
    """As the authors' published code runs: its loss, its network, its rates, no decay.

    Below paper scale the gradient is clipped as everywhere: without, conv6 diverges at once.
    """
    ours = deeply_supervised(spec, scale, name="ours-authors", loss="pcl-authors", taps=(4, 5))
    model = "resnet164" if ours.model == "resnet110" else ours.model
    return changed(
        ours,
        model=model,
        start=changed(softmax(spec, scale), model=model),
        schedule=Schedule(
            epochs=400 if scale == "paper" else ours.schedule.epochs,
            batch_size=128 if scale == "paper" else ours.schedule.batch_size,
            learning_rate=0.01,
            weight_decay=1e-4,
            gradient_clip=None if scale == "paper" else ours.schedule.gradient_clip,
            precision=ours.schedule.precision,
        ),
    )


def _vgg19(spec: DatasetSpec, scale: Scale) -> Recipe:
    """A standard VGG-19 on clean images: the black-box source."""
    sizes = SIZES[scale]
    return changed(
        softmax(spec, scale),
        name="vgg19",
        model="vgg19",
        width=sizes.source_width,
        schedule=_decaying(
            sizes.schedule, sizes.source, sizes.source * 3 // 4, sizes.source * 9 // 10
        ),
    )


def _model(spec: DatasetSpec, scale: Scale, *, name: str) -> Recipe:
    """Cross-entropy on a model of the family, which may be the one of *softmax*."""
    base = softmax(spec, scale)
    return base if base.model == name else changed(base, name=name, model=name)


_BASES: Mapping[str, Make] = {
    "softmax": softmax,
    "ours": partial(deeply_supervised, name="ours", loss="pcl"),
    "ours-authors": _authors,
    "deep-softmax": partial(
        deeply_supervised, name="deep-softmax", loss="deep-softmax", taps=TAPS[:-1]
    ),
    "center": partial(deeply_supervised, name="center", loss="center"),
    "contrastive": partial(_metric, name="contrastive"),
    "triplet": partial(_metric, name="triplet"),
    "vgg19": _vgg19,
}
_OF_LOSS = {CROSS_ENTROPY: "softmax", "pcl": "ours", "pcl-authors": "ours-authors"}
"""Losses whose recipe has another name than theirs."""


def bases() -> dict[str, Make]:
    """All base recipes: the paper's, and one for every other loss and model of the families."""
    losses = {
        name: partial(deeply_supervised, name=name, loss=name)
        for name in LOSSES
        if name not in _OF_LOSS
    }
    models = {name: partial(_model, name=name) for name in MODELS}
    return {**models, **losses, **_BASES}


def base_of_loss(loss: str) -> str:
    """The name of the recipe that trains with a loss.

    Raises:
        UserError: there is no such loss.
    """
    return _OF_LOSS.get(LOSSES.check(loss), loss)


def changed(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with other fields."""
    return recipe.model_copy(update=changes)


def _loss(name: str) -> Part:
    return Part(name=name, parameters=LOSS_PARAMETERS.get(name, {}))


def _colour(spec: DatasetSpec) -> int:
    """Index into pairs of (grey, colour)."""
    return int(spec.shape[0] == 3)


def _decaying(schedule: Schedule, epochs: int, *milestones: int) -> Schedule:
    return schedule.model_copy(update={"epochs": epochs, "milestones": milestones})
