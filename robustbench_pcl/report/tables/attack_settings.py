"""Table 2: the attacks' parameters, as their defaults are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.recipes.scales import SIZES
from robustbench_pcl.report.evidence import PAPER_STEPS
from robustbench_pcl.report.formatting import attack_label
from robustbench_pcl.report.tables.described import DescribedTable
from robustbench_pcl.specs.base import Part

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


def attack_settings() -> DescribedTable:
    """Table 2: the paper's attacks first, then the family's others."""
    names = dict.fromkeys([*PAPER_STEPS, *ATTACKS])
    return DescribedTable(
        number=2,
        caption=(
            "Defaults of the attacks: for a budget ε, α is the step size, i the number of steps, μ "
            "the decay factor of the momentum, κ the logit margin to reach."
        ),
        columns=("Attack", "Parameters", "Norm"),
        rows=tuple(
            (
                attack_label(Part(name=name)),
                ", ".join(_parameters(ATTACKS[name])),
                NORMS[ATTACKS[name].norm],
            )
            for name in names
        ),
        footnotes=tuple(_scaled()),
    )


def _parameters(attack: type[Attack]) -> Iterator[str]:
    defaults = {entry.name: entry.default for entry in fields(attack)}
    signed = [name for name in NOTATION if name in defaults]
    for name in dict.fromkeys([*signed, *defaults]):
        if name not in ELSEWHERE:
            yield f"{_sign(name)} = {_value(name, defaults[name])}"


def _sign(name: str) -> str:
    return NOTATION.get(name, name.replace("_", " "))


def _value(name: str, value: Any) -> str:
    """A default; a step size as a share of the budget, "ε/10"."""
    if name != "relative_step_size":
        return str(value)
    parts = 1 / value
    if value == 1:
        return "ε"
    return f"ε/{parts:.0f}" if math.isclose(parts, round(parts)) else f"{value:g} ε"


def _scaled() -> Iterator[str]:
    """What the smaller scales change."""
    for scale, sizes in SIZES.items():
        for name, parameters in sizes.attacks.items():
            changed = ", ".join(
                f"{_sign(key)} = {_value(key, value)}" for key, value in parameters.items()
            )
            yield f"{attack_label(Part(name=name))} at {scale} scale: {changed}."
