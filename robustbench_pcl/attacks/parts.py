"""Attacks by name and parameters, and back."""

from __future__ import annotations

import math
from dataclasses import fields

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.errors import UserError
from robustbench_pcl.registry import build
from robustbench_pcl.specs.base import Part, Scalar


def build_attack(part: Part) -> Attack:
    """The attack that a part names.

    Raises:
        UserError: there is no such attack or parameter, or a value is wrong for it.
    """
    defaults = {entry.name: entry.default for entry in fields(ATTACKS[part.name])}
    for name, value in part.parameters.items():
        kind = type(defaults.get(name, value))
        if not _is(value, kind):
            raise UserError(
                f"{name} of {part.name} is {_KINDS[kind]}, not {value!r}.",
                f"See what it takes: pclbench attacks show {part.name}.",
            )
    attack: Attack = build(ATTACKS, part)
    return attack


_KINDS = {int: "a whole number", float: "a finite number", str: "a word"}


def _is(value: Scalar, kind: type) -> bool:
    """Whether a parameter's value is of the kind that its default is."""
    if kind is float:
        return type(value) in (int, float) and math.isfinite(float(value))
    return type(value) is kind


def resolved(attack: Attack) -> Part:
    """The attack as a part with all its parameters."""
    parameters = {entry.name: getattr(attack, entry.name) for entry in fields(attack)}
    return Part(name=attack_name(attack), parameters=parameters)


def attack_name(attack: Attack) -> str:
    """The name of an attack in its family."""
    return ATTACKS.name_of(type(attack))
