"""An attack's budget: where it comes from, and what it is on another data set."""

from __future__ import annotations

from robustbench_pcl.data.spec import DatasetSpec
from robustbench_pcl.specs.base import Part


def budget_name(attack: Part) -> str:
    """The parameter that limits an attack: Carlini and Wagner's ``c``, the others' ``eps``."""
    return "c" if attack.name == "cw" else "eps"


def own_budget(attack: Part) -> float | None:
    """The budget an attack states, or None if it takes its section's."""
    value = attack.parameters.get(budget_name(attack))
    return None if value is None else float(value)


def with_budget(attack: Part, eps: float | None, c: float | None) -> Part:
    """The attack with a section's budget, unless it has its own."""
    name = budget_name(attack)
    budget = c if name == "c" else eps
    if budget is None or own_budget(attack) is not None:
        return attack
    return attack.merged({name: budget})


def in_proportion(attack: Part, printed: DatasetSpec, asked: DatasetSpec) -> Part:
    """The attack with the same share of another data set's standard budget; eps is at most 1.

    Args:
        attack: any; one without a budget of its own stays as it is.
        printed: the data set that its budget is meant for.
        asked: the data set to attack.
    """
    budget = own_budget(attack)
    if budget is None:
        return attack
    if budget_name(attack) == "c":
        scaled = budget * asked.carlini_wagner_c / printed.carlini_wagner_c
    else:
        scaled = min(budget * asked.eps / printed.eps, 1.0)
    # Twelve digits, so that rows of two tables that mean the same budget share their images.
    return attack.merged({budget_name(attack): float(f"{scaled:.12g}")})
