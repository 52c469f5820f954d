"""The recipes by name: the rows of the paper's tables, at three scales, on any data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.recipes.scales import SIZES
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.names import Scale
from robustbench_pcl.specs.recipe import Recipe, Schedule

TAPS = (3, 4, 5)
"""The layers of Table 1 that carry L_PC."""

Make = Callable[[DatasetSpec, Scale], Recipe]


def _softmax(spec: DatasetSpec, scale: Scale) -> Recipe:
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


def _ours(spec: DatasetSpec, scale: Scale, *, taps: tuple[int, ...] = TAPS) -> Recipe:
    """Softmax, then the joint loss with learning rate 0.1, x0.1 after epochs 200 and 250 of 300."""
    sizes = SIZES[scale]
    epochs = sizes.joint[_colour(spec)]
    softmax = _softmax(spec, scale)
    return _changed(
        softmax,
        name="ours",
        loss=Part(name="pcl"),
        taps=taps,
        start=softmax,
        schedule=_decaying(sizes.schedule, epochs, epochs * 2 // 3, epochs * 5 // 6),
    )


def _ours_authors(spec: DatasetSpec, scale: Scale) -> Recipe:
    """As the authors' published code runs: its loss, its network, its rates, no decay."""
    ours = _ours(spec, scale, taps=(4, 5))
    model = "resnet164" if ours.model == "resnet110" else ours.model
    return _changed(
        ours,
        name="ours-authors",
        model=model,
        loss=Part(name="pcl-authors"),
        start=_changed(_softmax(spec, scale), model=model),
        schedule=Schedule(
            epochs=400 if scale == "paper" else ours.schedule.epochs,
            batch_size=128 if scale == "paper" else ours.schedule.batch_size,
            learning_rate=0.01,
            weight_decay=1e-4,
            gradient_clip=None,
        ),
    )


def _vgg19(spec: DatasetSpec, scale: Scale) -> Recipe:
    """A standard VGG-19 on clean images: the black-box source."""
    sizes = SIZES[scale]
    return _changed(
        _softmax(spec, scale),
        name="vgg19",
        model="vgg19",
        width=sizes.source_width,
        schedule=_decaying(
            sizes.schedule, sizes.source, sizes.source * 3 // 4, sizes.source * 9 // 10
        ),
    )


def _advtrain(spec: DatasetSpec, scale: Scale) -> Recipe:
    """Table 13's second row: a VGG-19 trained on clean and FGSM images [31]."""
    return _changed(_vgg19(spec, scale), name="advtrain", defense=_against("fgsm", spec, scale))


def _madry(spec: DatasetSpec, scale: Scale) -> Recipe:
    """Min-max training against PGD [17] of the network that *ours* uses."""
    steps = SIZES[scale].pgd_steps[1]
    defense = Part(
        name="min-max",
        parameters={"eps": spec.eps, "steps": steps, "relative_step_size": _reach(steps)},
    )
    return _changed(_softmax(spec, scale), name="madry", defense=defense)


def _tapped(*taps: int) -> Make:
    """A row of Table 11: the loss at some layers only."""
    return lambda spec, scale: _changed(
        _ours(spec, scale, taps=taps), name="ours" + layers_suffix(taps)
    )


def _trained_against(attack: str) -> Make:
    """A row of Table 3: ours with adversarial training."""
    return lambda spec, scale: _changed(
        _ours(spec, scale), name=f"ours-{attack}", defense=_against(attack, spec, scale)
    )


RECIPES: Mapping[str, Make] = {
    "softmax": _softmax,
    "ours": _ours,
    "ours-fgsm": _trained_against("fgsm"),
    "ours-pgd": _trained_against("pgd"),
    "ours-l1": _tapped(1),
    "ours-l2": _tapped(2),
    "ours-l3": _tapped(3),
    "ours-l4": _tapped(4),
    "ours-l5": _tapped(5),
    "ours-l45": _tapped(4, 5),
    "ours-authors": _ours_authors,
    "vgg19": _vgg19,
    "advtrain": _advtrain,
    "madry": _madry,
}


def named_recipe(name: str, dataset: str, scale: Scale, seed: int = 0) -> Recipe:
    """The recipe with that name.

    Args:
        name: one of ``RECIPES``.
        dataset: name in the catalogue.
        scale: how large.
        seed: of weights, order, augmentation and training attacks, also of the start's.

    Raises:
        UserError: there is no such recipe or data set.
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return with_seed(RECIPES[name](dataset_spec(dataset), scale), seed)


def composed_recipe(
    dataset: str,
    scale: Scale,
    seed: int = 0,
    *,
    loss: str = "cross-entropy",
    adversarial: str | None = None,
    layers: tuple[int, ...] | None = None,
) -> Recipe:
    """The recipe that ``pclbench train``'s flags describe; the paper's rows keep their names.

    Args:
        dataset: name in the catalogue.
        scale: how large.
        seed: as in :func:`named_recipe`.
        loss: name in the family of losses.
        adversarial: an attack to train against, as in Algorithm 1; None for clean images only.
        layers: where the loss acts; None for the loss's own choice.

    Raises:
        UserError: a name is unknown, or layers are given for plain cross-entropy.
    """
    spec = dataset_spec(dataset)
    bases = {"cross-entropy": "softmax", "pcl": "ours", "pcl-authors": "ours-authors"}
    if loss not in bases:
        raise unknown_name("loss", loss, bases)
    recipe = RECIPES[bases[loss]](spec, scale)
    name = recipe.name
    if layers and not recipe.taps:
        raise UserError(
            "Plain cross-entropy does not act on layers.", "Leave --layers out, or add --loss pcl."
        )
    taps = tuple(sorted(set(layers or recipe.taps)))
    if taps != recipe.taps:
        recipe, name = _changed(recipe, taps=taps), name + layers_suffix(taps)
    if adversarial:
        ATTACKS.check(adversarial)
        recipe = _changed(recipe, defense=_against(adversarial, spec, scale))
        name = f"{name}-{adversarial}"
    return with_seed(_changed(recipe, name=name), seed)


def layers_suffix(layers: tuple[int, ...]) -> str:
    """How a choice of layers is written in a recipe's name: ``-l45``."""
    return "-l" + "".join(str(layer) for layer in sorted(layers))


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The same recipe, and the one it starts from, with another seed."""
    start = with_seed(recipe.start, seed) if recipe.start else None
    return _changed(recipe, seed=seed, start=start)


def _against(attack: str, spec: DatasetSpec, scale: Scale) -> Part:
    """Adversarial training with budgets from the paper's interval (Section 6.1)."""
    low, high = spec.training_eps
    steps = 1 if attack == "fgsm" else SIZES[scale].pgd_steps[0]
    return Part(
        name="adversarial-training",
        parameters={
            "attack": attack,
            "steps": steps,
            "relative_step_size": 1.0 if attack == "fgsm" else _reach(steps),
            "low": low,
            "high": high,
        },
    )


def _reach(steps: int) -> float:
    """Table 2's step size, eps/4 for 10 steps, so that fewer steps walk as far in all."""
    return 2.5 / steps


def _colour(spec: DatasetSpec) -> int:
    """Index into pairs of (grey, colour)."""
    return int(spec.shape[0] == 3)


def _decaying(schedule: Schedule, epochs: int, *milestones: int) -> Schedule:
    changed = {"epochs": epochs, "milestones": milestones}
    return schedule.model_copy(update=changed)


def _changed(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.model_copy(update=changes)


def rescheduled(recipe: Recipe, epochs: int | None, learning_rate: float | None) -> Recipe:
    """The same recipe for other epochs, its decays in proportion, or another learning rate.

    What differs is added to its name, so that no table takes it for the paper's row.
    """
    schedule, name = recipe.schedule, recipe.name
    if epochs not in (None, schedule.epochs):
        milestones = tuple(
            max(1, round(milestone * epochs / schedule.epochs)) for milestone in schedule.milestones
        )
        schedule = schedule.model_copy(update={"epochs": epochs, "milestones": milestones})
        name += f"-e{epochs}"
    if learning_rate not in (None, schedule.learning_rate):
        schedule = schedule.model_copy(update={"learning_rate": learning_rate})
        name += f"-lr{learning_rate:g}"
    return Recipe.model_validate(_changed(recipe, name=name, schedule=schedule).model_dump())
