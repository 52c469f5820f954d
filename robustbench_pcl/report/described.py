"""The paper's tables that describe rather than measure, printed from the code's own registries."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import attack_label
from robustbench_pcl.configuration import SCALES
from robustbench_pcl.recipes.presets import SIZES
from robustbench_pcl.registry import Family

TITLES = {
    1: "Networks, and where the Prototype Conformity Loss acts",
    2: "Attacks",
    10: "ResNet-110 with other losses, and where they act",
}
"""The tables there are, by the paper's number. Making 1 and 10 needs torch; the titles do not."""
PAPER_ATTACKS = ("fgsm", "bim", "mim", "cw", "pgd")
"""In the order of the paper's Table 2."""
NOTATION = {
    "relative_step_size": "α",
    "learning_rate": "learning rate",
    "steps": "i",
    "momentum": "μ",
    "confidence": "κ",
}
"""Parameters that the paper has a sign for, in its order."""
NORMS = {"linf": "ℓ∞", "l2": "ℓ2"}
ELSEWHERE = ("eps", "c", "loss")
"""What the tables of results give: budgets, and what is maximised."""


@dataclass(frozen=True)
class DescribedTable:
    """A table of words, ready to be rendered.

    Attributes:
        number: the paper's.
        caption: what the entries are.
        columns: from left to right.
        rows: from top to bottom, one entry per column.
        footnotes: sentences.
    """

    number: int
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footnotes: tuple[str, ...]

    @property
    def title(self) -> str:
        """What it is about."""
        return TITLES[self.number]


_MAKERS: Family[Callable[[], DescribedTable]] = Family(
    "table",
    {
        "1": "robustbench_pcl.report.networks:conformity_networks",
        "2": "robustbench_pcl.report.described:attack_settings",
        "10": "robustbench_pcl.report.networks:other_networks",
    },
)


def described_table(number: int) -> DescribedTable:
    """A table of :data:`TITLES`.

    Raises:
        UserError: there is no such table.
    """
    return _MAKERS[str(number)]()


def attack_settings() -> DescribedTable:
    """Table 2: the paper's attacks first, then the family's others."""
    names = dict.fromkeys([*PAPER_ATTACKS, *ATTACKS])
    return DescribedTable(
        number=2,
        caption=(
            "Defaults of the attacks: for a budget ε, α is the step size, i the number of steps, μ "
            "the decay factor of the momentum, κ the logit margin to reach."
        ),
        columns=("Attack", "Parameters", "Norm"),
        rows=tuple(
            (_label(name), ", ".join(_defaults(name)), NORMS[ATTACKS[name].norm]) for name in names
        ),
        footnotes=tuple(
            f"{_label(name)} at {scale} scale: {', '.join(map(_value, changed, changed.values()))}."
            for scale in SCALES
            for name in names
            if (changed := SIZES[scale].attacks.get(name))
        ),
    )


def _label(name: str) -> str:
    """An attack's name as papers write it, without parameters."""
    label, _, _ = attack_label({"name": name}).partition(",")
    return label


def _defaults(name: str) -> Iterator[str]:
    """Each parameter and its default: those with a sign first."""
    defaults = {key: default for key, (default, _) in ATTACKS[name].parameters().items()}
    for key in dict.fromkeys([*(sign for sign in NOTATION if sign in defaults), *defaults]):
        if key not in ELSEWHERE:
            yield _value(key, defaults[key])


def _value(name: str, value: Any) -> str:
    """A parameter and its value; a step size as a share of the budget, "α = ε/10"."""
    shown = str(value)
    if name == "relative_step_size":
        parts = 1 / value
        shown = f"ε/{parts:.0f}" if math.isclose(parts, round(parts)) else f"{value:g} ε"
        shown = "ε" if value == 1 else shown
    return f"{NOTATION.get(name, name.replace('_', ' '))} = {shown}"
