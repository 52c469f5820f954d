"""The one error a user is meant to see: what went wrong, and the command that helps."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend.

    The command line prints ``cause`` and ``cure`` on a line each and exits with code 2; the Python
    API raises it as it is.

    Args:
        cause: what is wrong, in one line.
        cure: what to do about it, in one line, with the command to type where there is one.
    """

    def __init__(self, cause: str, cure: str) -> None:
        super().__init__(cause, cure)
        self.cause = cause
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.cause} {self.cure}"


class DamagedSetError(UserError):
    """An adversarial set, or a part of one, that is not what was once written."""


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
    near = difflib.get_close_matches(shortened(name).lower(), names, n=3, cutoff=0.5)
    cure = f"Did you mean {' or '.join(near)}? " if near else ""
    listed = f"Known: {', '.join(names)}." if names else "There are none at all: leave it out."
    return UserError(f"There is no {kind} called {shortened(name)!r}.", f"{cure}{listed}")


def in_one_line(error: BaseException) -> str:
    """What was raised, in one line without a full stop."""
    words = error.cause if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(words.split()).rstrip(".")


def shortened(text: str, most: int = 40) -> str:
    """A text in one line of at most so many characters, so that no message repeats a whole file."""
    line = " ".join(text[: 4 * most].split()).rstrip(".")
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[: most - 3]}..."
