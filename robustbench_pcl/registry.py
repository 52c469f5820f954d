"""Families of named things (attacks, losses, ...), imported only when one of them is used."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.specs.base import Part

T = TypeVar("T")


class Family(Generic[T]):
    """A table from names to things, each given as ``"module:attribute"``.

    Listing the names imports nothing, so the command line's help and completion never pay for
    torch; ``family["pgd"]`` imports the one module that defines it.

    Args:
        kind: what a member is called, in the singular ("attack").
        members: name -> "module:attribute".
    """

    def __init__(self, kind: str, members: Mapping[str, str]) -> None:
        self.kind = kind
        self._members = dict(members)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __len__(self) -> int:
        return len(self._members)

    def check(self, name: str) -> str:
        """Return ``name`` if it is a member.

        Raises:
            UserError: it is not; the message suggests the nearest names.
        """
        if name not in self._members:
            raise unknown_name(self.kind, name, self._members)
        return name

    def __getitem__(self, name: str) -> T:
        module, attribute = self._members[self.check(name)].split(":")
        return cast(T, getattr(importlib.import_module(module), attribute))


def build(family: Family[Any], part: Part, *positional: object) -> Any:
    """Make the member that ``part`` names, with its parameters as keywords.

    Args:
        family: where the name is looked up.
        part: the name, and the parameters that differ from the member's defaults.
        positional: what every member of the family takes first.

    Raises:
        UserError: there is no such member, it has no such parameter, or a value is wrong for it.
    """
    make = family[part.name]
    known = set(list(inspect.signature(make).parameters)[len(positional) :])
    for name in part.parameters:
        if name not in known:
            raise unknown_name(f"parameter of {family.kind} {part.name}", name, known)
    try:
        return make(*positional, **part.parameters)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{family.kind.capitalize()} {part.name} cannot be made: {error}.",
            f"Its parameters: {', '.join(sorted(known))}.",
        ) from error
