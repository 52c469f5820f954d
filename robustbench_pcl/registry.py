"""Families of named things (attacks, losses, ...), imported only when one of them is used."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Container, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from robustbench_pcl.errors import UserError, unknown_name

if TYPE_CHECKING:
    from robustbench_pcl.specs.base import Part

T = TypeVar("T")

LONGEST_NAME = 40
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TARGET = re.compile(r"\w+(\.\w+)*:\w+")


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

    def add(self, name: str, target: str) -> None:
        """Add a member from outside the package; the same once more changes nothing.

        Args:
            name: what users type; it becomes part of the names of recipes and files.
            target: where the member is, "module:attribute".

        Raises:
            UserError: the name is taken or cannot be one, or the target is not of that form.
        """
        check_target(f"{self.kind} {name}", target)
        if self._members.get(name) != target:
            self._members[new_name(self.kind, name, self._members)] = target

    def check(self, name: str) -> str:
        """Return ``name`` if it is a member.

        Raises:
            UserError: it is not; the message suggests the nearest names.
        """
        if name not in self._members:
            raise unknown_name(self.kind, name, self._members)
        return name

    def __getitem__(self, name: str) -> T:
        return cast(T, resolve(f"{self.kind} {name}", self._members[self.check(name)]))

    def name_of(self, member: T) -> str:
        """The name of a member that was looked up before.

        Raises:
            UserError: the family does not have it.
        """
        for name, target in self._members.items():
            module, attribute = target.split(":")
            if getattr(sys.modules.get(module), attribute, None) is member:
                return name
        raise UserError(
            f"{getattr(member, '__qualname__', member)} is no {self.kind} with a name.",
            "Add it to its family under a name of your own: see docs/extending.md.",
        )


def new_name(kind: str, name: str, taken: Container[str]) -> str:
    """Return ``name`` if something new can be called that.

    Args:
        kind: what it is, in the singular.
        name: what it is to be called.
        taken: what others of its kind are called.

    Raises:
        UserError: it is taken, or has other characters than file and recipe names have.
    """
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST_NAME].rstrip("-")
        raise UserError(
            f"No {kind} can be called {name!r}.",
            f"Use lower-case letters, digits and single hyphens, {LONGEST_NAME} at most: "
            f"{plain or f'my-{kind}'.replace(' ', '-')}.",
        )
    if name in taken:
        raise UserError(f"{name!r} is the name of another {kind}.", "Give yours another one.")
    return name


def check_target(what: str, target: str) -> None:
    """Check that a target is "module:attribute".

    Args:
        what: the thing that it leads to, for the error.
        target: what was given.

    Raises:
        UserError: it is not.
    """
    if not _TARGET.fullmatch(str(target)):
        raise UserError(
            f"{target!r} does not say where the {what} is.",
            'Write "module:attribute", such as "my_module:Mine".',
        )


def resolve(what: str, target: str) -> Any:
    """Import what a target leads to.

    Args:
        what: the thing, for the error.
        target: "module:attribute".

    Raises:
        UserError: the module cannot be imported, or has no such attribute.
    """
    module, attribute = target.split(":")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"The {what} cannot be imported from {module}: {' '.join(str(error).split())}.",
            f"Correct {target!r}, or install what is missing.",
        ) from error
    if not hasattr(found, attribute):
        raise UserError(
            f"The {what} is not in {module}, which has no {attribute!r}.",
            f"Correct {target!r}.",
        )
    return getattr(found, attribute)


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
