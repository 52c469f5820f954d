"""The one error a user is meant to see: what went wrong, and the command that helps."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable

CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]+"
)
"""What moves a terminal's cursor, turns a line's direction, or cannot be seen."""


def visible(text: str) -> str:
    """Text as a terminal may show it: what would move its cursor or turn a line is written out.

    Names and notes come from others' files. Line breaks and tabs stay. The others are written as
    JSON has them, so that JSON stays what it is.
    """
    return CONTROLS.sub(lambda found: "".join(map(_escape, found[0])), text)


def _escape(letter: str) -> str:
    return json.dumps(letter)[1:-1] if letter != "\x7f" else "\\u007f"


class UserError(Exception):
    """Something the user can mend.

    The command line prints ``cause`` and ``cure`` on a line each and exits with code 2; the Python
    API raises it as it is.

    Args:
        cause: what is wrong, in one line.
        cure: what to do about it, in one line, with the command to type where there is one.

    Both are kept as :func:`visible` text in one line, whatever the names in them.
    """

    def __init__(self, cause: str, cure: str) -> None:
        super().__init__(cause, cure)
        self.cause = visible(cause.replace("\n", " "))
        self.cure = visible(cure.replace("\n", " "))

    def __str__(self) -> str:
        return f"{self.cause} {self.cure}"


class InvalidInputError(UserError, ValueError):
    """Images, labels or a model that no attack can be made on."""


class RandomisedModelError(InvalidInputError):
    """A model that answers differently when it is asked twice."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a family, with the nearest names first.

    Args:
        kind: the family in the singular, as users call it ("attack", "data set").
        name: what was asked for.
        known: the names there are.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    cure = f"Did you mean {' or '.join(near)}? " if near else ""
    listed = f"Known: {', '.join(names)}." if names else "There are none at all: leave it out."
    return UserError(f"There is no {kind} called {name!r}.", f"{cure}{listed}")


def in_one_line(error: BaseException) -> str:
    """What was raised, in one line without a full stop."""
    words = error.cause if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(words.split()).rstrip(".")
