"""What options can be chosen from: enums, and names that a shell completes."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, cast

import typer

if TYPE_CHECKING:
    from robustbench_pcl import configuration


class Scale(StrEnum):
    """How large."""

    paper = "paper"
    quick = "quick"
    demo = "demo"


class Format(StrEnum):
    """How rows and tables are written."""

    text = "text"
    md = "md"
    latex = "latex"
    html = "html"
    csv = "csv"
    json = "json"


class Readers(StrEnum):
    """Who reads what is found: people, or programs."""

    text = "text"
    json = "json"


class Precision(StrEnum):
    """How a training computes."""

    mixed = "mixed"
    float32 = "float32"


class Loss(StrEnum):
    """What an attack maximises."""

    cross_entropy = "cross-entropy"
    mifpe = "mifpe"
    margin = "margin"
    dlr = "dlr"
    targeted_dlr = "targeted-dlr"
    joint = "joint"
    prototype = "prototype"
    feature = "feature"


class Ensemble(StrEnum):
    """Attacks that are sequences of others."""

    auto = "auto"
    strongest = "strongest"


class TargetClass(StrEnum):
    """The wrong class that an attack goes towards."""

    likeliest = "likeliest"
    least_likely = "least-likely"
    random = "random"


class Budget(StrEnum):
    """How much the strongest attack may spend."""

    quick = "quick"
    standard = "standard"
    exhaustive = "exhaustive"


class Norm(StrEnum):
    """Of a budget."""

    linf = "linf"
    l2 = "l2"


def offered(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """A shell's completion: those of the names that go on from what is typed."""

    def going_on(start: str) -> list[str]:
        return [name for name in names() if name.startswith(start)]

    return going_on


def dataset_names() -> Iterable[str]:
    """All data sets."""
    from robustbench_pcl.data.datasets import DATASETS

    return DATASETS


def attack_names() -> Iterable[str]:
    """All attacks."""
    from robustbench_pcl.attacks import ATTACKS

    return ATTACKS


def loss_names() -> Iterable[str]:
    """All losses that a model can be trained with."""
    from robustbench_pcl.losses import LOSSES

    return LOSSES


def model_names() -> Iterable[str]:
    """All models."""
    from robustbench_pcl.models import MODELS

    return MODELS


def recipe_names() -> Iterable[str]:
    """All recipes."""
    from robustbench_pcl.recipes.presets import recipe_names as names

    return names()


def column_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """A shell's completion: the columns of the table that is asked for, or of all."""
    from robustbench_pcl.paper.tables import published, published_numbers

    asked = ctx.params.get("table")
    numbers = [asked] if asked in published_numbers() else published_numbers()
    columns = [column for number in numbers for column in published(number).columns]
    names = dict.fromkeys(name for each in columns for name in (each.name, each.label, each.group))
    return [name for name in names if name and name.casefold().startswith(incomplete.casefold())]


def code_names() -> Iterable[str]:
    """All codes of verdicts and checks."""
    from robustbench_pcl.diagnosis.codes import explanations

    return explanations()


def executor_names() -> Iterable[str]:
    """All executors."""
    from robustbench_pcl.pipeline.executors import EXECUTORS

    return EXECUTORS


def read_scale(choice: Scale | None) -> "configuration.Scale | None":
    """The scale that was chosen, as recipes know it."""
    return cast("configuration.Scale | None", choice and choice.value)
