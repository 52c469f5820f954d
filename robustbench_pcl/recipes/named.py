"""Recipes by name: the rows of the paper's tables, and everything composed in the same way.

A name is a base and what is changed about it, in this order::

    ours          a loss or a model: softmax, ours, center, triplet, vgg19, ...
    -2d           two neurons in the penultimate layer (Figures 1 and 6)
    -l45          the loss acts on layers 4 and 5 (Table 11)
    -ross         a defence of the family; alone, ``ross`` means ``softmax-ross``
    -pgd          adversarial training with that attack (Algorithm 1; the tables' asterisks)
    -nearest      the nearest prototype decides, not the largest logit (Eq. 7)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.models import MODELS
from robustbench_pcl.recipes.bases import Make, base_of_loss, bases, changed
from robustbench_pcl.recipes.changes import CHANGES
from robustbench_pcl.specs.names import Scale, TrainingPrecision
from robustbench_pcl.specs.recipe import Recipe

COMMON = ("ours-fgsm", "ours-pgd", "ours-nearest", "ours-l45", "ours-2d", "vgg19-advtrain")
"""Composed names that suggestions know."""
RESERVED = ("softmax", "ours", "ours-authors", "nearest", "2d")
"""What else a word in a recipe's name can be."""


def named_recipe(name: str, dataset: str, scale: Scale, seed: int = 0) -> Recipe:
    """The recipe with that name.

    Args:
        name: a base and its changes. The recipe's own name is the shortest that means the same:
            ``ross`` for ``softmax-ross``, ``ours`` for ``ours-l345``.
        dataset: name in the catalogue.
        scale: how large.
        seed: of weights, order, augmentation and training attacks, also of the start's.

    Raises:
        UserError: there is no such recipe or data set.
    """
    parsed = _parse(name)
    if parsed is None:
        ordered = _in_order(name)
        if ordered:
            raise UserError(
                f"There is no recipe {name!r}: its words are in another order.",
                f"Did you mean {ordered}?",
            )
        raise unknown_name("recipe", name, recipe_names())
    spec, (make, words) = dataset_spec(dataset), parsed
    recipe = make(spec, scale)
    for kind, word in words:
        other = CHANGES[kind].apply(recipe, word, spec)
        if other != recipe:  # the base may be so already
            recipe = changed(other, name=f"{recipe.name}-{word}")
    short = recipe.name.removeprefix("softmax-")
    if _head(short, DEFENSES):
        recipe = changed(recipe, name=short)
    return with_seed(recipe, seed)


def is_recipe(name: str) -> bool:
    """Whether there is a recipe of that name."""
    return _parse(name) is not None


def recipe_names() -> list[str]:
    """All bases and defences, and some of what can be composed of them."""
    return [*bases(), *(name for name in DEFENSES if name != "none"), *COMMON]


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
    name = base_of_loss(loss)
    taps = named_recipe(name, dataset, scale).taps
    if layers and not taps:
        raise UserError(
            "Plain cross-entropy does not act on layers.", "Leave --layers out, or add --loss pcl."
        )
    if layers and set(layers) != set(taps):
        name += layers_suffix(layers)
    if adversarial:
        name += f"-{ATTACKS.check(adversarial)}"
    return named_recipe(name, dataset, scale, seed)


def layers_suffix(layers: Iterable[int]) -> str:
    """How a choice of layers is written in a recipe's name: ``-l45``."""
    return "-l" + "".join(str(layer) for layer in sorted(set(layers)))


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The same recipe, and the one it starts from, with another seed."""
    start = with_seed(recipe.start, seed) if recipe.start else None
    return changed(recipe, seed=seed, start=start)


def rescheduled(
    recipe: Recipe,
    epochs: int | None,
    learning_rate: float | None,
    precision: TrainingPrecision | None = None,
) -> Recipe:
    """The same recipe for other epochs, its decays in proportion, learning rate or precision.

    What differs is added to its name, so that no table takes it for the paper's row. The recipe it
    starts from keeps its epochs and its learning rate.
    """
    schedule, name, start = recipe.schedule, recipe.name, recipe.start
    if epochs not in (None, schedule.epochs):
        milestones = tuple(
            max(1, round(milestone * epochs / schedule.epochs)) for milestone in schedule.milestones
        )
        schedule = schedule.model_copy(update={"epochs": epochs, "milestones": milestones})
        name += f"-e{epochs}"
    if learning_rate not in (None, schedule.learning_rate):
        schedule = schedule.model_copy(update={"learning_rate": learning_rate})
        name += f"-lr{learning_rate:g}"
    if precision not in (None, schedule.precision):
        schedule = schedule.model_copy(update={"precision": precision})
        start = rescheduled(start, None, None, precision) if start else None
        name += f"-{precision}"
    other = changed(recipe, name=name, schedule=schedule, start=start)
    return Recipe.model_validate(other.model_dump())


def _parse(name: str) -> tuple[Make, list[tuple[int, str]]] | None:
    """The base of a name and its changes, each with its place in ``CHANGES``; None if it is none.

    Raises:
        UserError: two families have a word in common.
    """
    makes = bases()
    _refuse_shared_names(makes)
    return _split(name, makes)


def _split(name: str, makes: Mapping[str, Make]) -> tuple[Make, list[tuple[int, str]]] | None:
    """Names of families may have hyphens themselves, so the longest that fits is taken."""
    base = _head(name, makes)
    if base is None:
        base, rest = "softmax", f"-{name}"
        if _head(name, DEFENSES) is None:
            return None
    else:
        rest = name[len(base) :]
    words: list[tuple[int, str]] = []
    while rest:
        word = _head(rest[1:], [*DEFENSES, *ATTACKS]) or rest[1:].partition("-")[0]
        kinds = _kinds(word)
        if not kinds or (words and words[-1][0] >= kinds[0]):
            return None
        words.append((kinds[0], word))
        rest = rest[1 + len(word) :]
    return makes[base], words


def _in_order(name: str) -> str | None:
    """The recipe's name that is made of the same words in their order, or None."""
    base = _head(name, bases()) or "softmax"
    words = [word for word in name.removeprefix(base).split("-") if word]
    ordered = sorted(words, key=lambda word: next(iter(_kinds(word)), 0))
    again = "-".join([base, *ordered])
    return again if again != name and _parse(again) else None


def _kinds(word: str) -> list[int]:
    """The places in ``CHANGES`` of the kinds that a word is of."""
    return [kind for kind, change in enumerate(CHANGES) if change.names(word)]


def _refuse_shared_names(makes: Mapping[str, Make]) -> None:
    """Families know nothing of each other, but a word in a recipe's name must mean one thing."""
    words = [*(name for name in DEFENSES if name != "none"), *ATTACKS]
    counts = Counter([*MODELS, *LOSSES, *words, *RESERVED])
    shared = [
        *(name for name, count in counts.items() if count > 1),
        *(word for word in words if len(_kinds(word)) > 1),
        *(
            name
            for name in (*MODELS, *LOSSES)
            if _split(name, {other: make for other, make in makes.items() if other != name})
        ),
    ]
    if shared:
        raise UserError(
            f"{shared[0]!r} is the name of two things, and a recipe's name could mean either.",
            "Give yours another name.",
        )


def _head(text: str, names: Iterable[str]) -> str | None:
    """The longest of the names that ``text`` is, or starts with before a hyphen."""
    fitting = [name for name in names if f"{text}-".startswith(f"{name}-")]
    return max(fitting, key=len, default=None)
