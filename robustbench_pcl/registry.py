"""Families of named things (attacks, losses, ...), imported only when one of them is used."""

from __future__ import annotations

import importlib
import re
from collections.abc import Container, Iterator, Mapping
from typing import Any, Generic, TypeVar, cast

from robustbench_pcl.configuration import Configuration
from robustbench_pcl.errors import UserError, shortened, unknown_name

T = TypeVar("T")

LONGEST_NAME = 40
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TARGET = re.compile(r"\w+(\.\w+)*:\w+")


class Family(Generic[T]):
    """A table from names to things, each given as ``"module:attribute"``.

    Listing the names imports nothing, so the command line's help and completion never pay for
    torch; ``family["pgd"]`` imports the one module that defines it.

    Attributes:
        kind: what a member is called, in the singular ("attack").
        members: name -> "module:attribute".
    """

    def __init__(self, kind: str, members: Mapping[str, str]) -> None:
        self.kind = kind
        self.members = dict(members)

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __contains__(self, name: object) -> bool:
        return name in self.members

    def __len__(self) -> int:
        return len(self.members)

    def add(self, name: str, target: str) -> None:
        """Add a member from outside the package; the same once more changes nothing.

        Args:
            name: what users type; it becomes part of the names of recipes and files.
            target: where the member is, "module:attribute".

        Raises:
            UserError: the name is taken or cannot be one, or the target is not of that form.
        """
        check_target(f"{self.kind} {name}", target)
        if self.members.get(name) != target:
            self.members[new_name(self.kind, name, self.members)] = target

    def check(self, name: str) -> str:
        """Return ``name`` if it is a member.

        Raises:
            UserError: it is not; the message suggests the nearest names.
        """
        if name not in self.members:
            raise unknown_name(self.kind, name, self.members)
        return name

    def __getitem__(self, name: str) -> T:
        if name not in self.members:
            raise unknown_name(self.kind, name, self.members)
        return cast(T, resolve(f"{self.kind} {name}", self.members[name]))


C = TypeVar("C", bound=Configuration)


class ConfigurationFamily(Family[type[C]], Generic[C]):
    """A family whose members are configurations: attacks, losses, defences.

    A member's ``name`` is the one that it is registered under, since that is what is stored.
    """

    def __getitem__(self, name: str) -> type[C]:
        member = super().__getitem__(name)
        own = member.model_fields["name"].default
        if own != name:
            raise UserError(
                f"The {self.kind} registered as {name!r} calls itself {own!r}.",
                f'Write in its class: name: Literal["{name}"] = "{name}".',
            )
        return member

    def configure(self, name: str, parameters: Mapping[str, object] | None = None) -> C:
        """The complete configuration of that name.

        Args:
            name: of the member.
            parameters: those that differ from its defaults; values may be text.

        Raises:
            UserError: there is no such member or parameter, or a value is wrong for it.
        """
        return self[name].complete(parameters or {})

    def read(self, dump: Mapping[str, object]) -> C:
        """The configuration that was dumped.

        Raises:
            UserError: its member is not registered (a plugin that is not loaded), or has changed.
        """
        return self[str(dump["name"])].complete(dump)


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
        plain = plain_name(name)
        raise UserError(
            f"No {kind} can be called {shortened(repr(name), 100)}.",
            f"Use lower-case letters, digits and single hyphens, {LONGEST_NAME} at most: "
            f"{plain or f'my-{kind}'.replace(' ', '-')}.",
        )
    if name in taken:
        raise UserError(f"{name!r} is the name of another {kind}.", "Give yours another one.")
    return name


def plain_name(text: str) -> str:
    """The nearest text that can be a name; "" if no letter or digit is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST_NAME].rstrip("-")


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
