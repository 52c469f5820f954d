"""Pages of recipes: every hyper-parameter at the three scales, and where the paper says it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reference import restructured as rst
from reference.members import value
from robustbench_pcl.configuration import SCALES
from robustbench_pcl.data.datasets import DATASETS
from robustbench_pcl.recipe import AdversarialTraining, Recipe, Schedule
from robustbench_pcl.recipes.load import describe, load_recipe
from robustbench_pcl.recipes.presets import recipe_names

OURS = "ours"
LEFT_OUT = ("name", "scale", "dataset", "seed", "start")
"""What every recipe says of itself and not of its training; what it starts from stands apart."""
Leaf = tuple[str, Any]


@dataclass(frozen=True)
class Source:
    """Where a value is published.

    Attributes:
        field: path of a recipe's field, "schedule.epochs".
        value: as it is published; another one is ours.
        where: section, equation or table of the paper, or another paper.
        datasets: that it is published for; all if empty.
        when: other fields that must have a value for the source to say this.
    """

    field: str
    value: Any
    where: str
    datasets: tuple[str, ...] = ()
    when: Mapping[str, Any] | None = None

    def says(self, field: str, found: Any, dataset: str, recipe: Mapping[str, Any]) -> bool:
        """Whether it is the source of a recipe's value."""
        return (
            field == self.field
            and value(found) == value(self.value)
            and (not self.datasets or dataset in self.datasets)
            and all(recipe.get(key) == wanted for key, wanted in (self.when or {}).items())
        )


def sources() -> list[Source]:
    """What ``sources.toml`` says."""
    text = (Path(__file__).parent / "sources.toml").read_text(encoding="utf-8")
    return [
        Source(**{**entry, "datasets": tuple(entry.get("datasets", ()))})
        for entry in tomllib.loads(text)["source"]
    ]


def pages() -> dict[str, str]:
    """A page for each recipe, and one that lists them."""
    found = {f"recipes/{name}": _recipe(name) for name in recipe_names()}
    rows = [
        (
            rst.link(f"recipe-{name}", name),
            rst.plain(describe(load_recipe(name, "cifar10", "paper"))),
        )
        for name in recipe_names()
    ]
    found["recipes/index"] = rst.page(
        rst.heading("Recipes", 0, "recipes"),
        "A recipe is everything that decides a trained network but the pixels. "
        "``pclbench train DATASET --recipe NAME`` trains one, ``--set FIELD=VALUE`` changes a "
        "field. ``-fgsm`` or ``-pgd`` after a name adds adversarial images to each batch.",
        rst.table(("Name", "What sets it apart"), rows),
        rst.heading("Fields", 1, "recipe-fields"),
        rst.table(("Field", "What it says"), _fields()),
        rst.contents(recipe_names()),
    )
    return found


def _fields() -> Iterator[tuple[str, str]]:
    for kind, above in ((Recipe, ""), (Schedule, "schedule."), (AdversarialTraining, "")):
        prefix = "adversarial_training." if kind is AdversarialTraining else above
        for name, words in rst.attributes(kind).items():
            yield rst.code(prefix + name), rst.plain(words)


def leaves(content: Mapping[str, Any], above: str = "") -> Iterator[Leaf]:
    """Every field of a recipe that is not itself made of fields, by its path."""
    for name, given in content.items():
        if above or name not in LEFT_OUT:
            if isinstance(given, Mapping):
                yield from leaves(given, f"{above}{name}.")
            else:
                yield above + name, given


def published(field: str, found: Any, dataset: str, recipe: Mapping[str, Any]) -> str:
    """Where a value is published; "ours" where it is not."""
    says = (each.where for each in SOURCES if each.says(field, found, dataset, recipe))
    return next(says, OURS)


def _recipe(name: str) -> str:
    recipe = load_recipe(name, "cifar10", "paper")
    parts = [
        rst.heading(name, 0, f"recipe-{name}"),
        rst.plain(describe(recipe)),
        _start(recipe),
        "Where a value is *ours*, the paper does not say it. The last column is about the values "
        "at paper scale; the other scales are smaller so that they take less time. Digits are not "
        "in the paper; they have the values of MNIST.",
    ]
    for datasets, by_scale in _groups(name).items():
        parts += [rst.heading(", ".join(DATASETS[each].title for each in datasets), 1)]
        parts += [rst.table(("Field", *SCALES, "Source"), _rows(datasets, by_scale))]
    return rst.page(*parts)


def _start(recipe: Recipe) -> str:
    if recipe.start is None:
        return "It starts from fresh weights."
    name = recipe.start.name
    shown = rst.link(f"recipe-{name}", name) if name in recipe_names() else rst.code(name)
    return f"It starts from the checkpoint of {shown} (Algorithm 1, lines 3 and 4)."


ByScale = Mapping[str, Mapping[str, Any]]


def _groups(name: str) -> Mapping[tuple[str, ...], ByScale]:
    """A recipe's leaves at each scale, once for all data sets on which they are the same."""
    found: dict[str, tuple[list[str], ByScale]] = {}
    for dataset in DATASETS:
        at: ByScale = {
            scale: dict(leaves(load_recipe(name, dataset, scale).content())) for scale in SCALES
        }
        found.setdefault(repr(at), ([], at))[0].append(dataset)
    return {tuple(datasets): at for datasets, at in found.values()}


def _rows(datasets: Iterable[str], by_scale: ByScale) -> Iterator[tuple[str, ...]]:
    paper = by_scale["paper"]
    for field in paper:
        values = [rst.code(value(by_scale[scale].get(field))) for scale in SCALES]
        found = (published(field, paper[field], dataset, paper) for dataset in datasets)
        where = next((each for each in found if each != OURS), OURS)
        yield rst.code(field), *values, _where(paper[field], where)


def _where(given: Any, where: str) -> str:
    """A source in a table; what a recipe does not have needs none."""
    if where != OURS:
        return rst.plain(where)
    return "" if value(given) in ("none", "") else f"*{OURS}*"


SOURCES = sources()
