"""The one error a user is meant to see: what went wrong, and the command that helps."""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
from collections.abc import Iterable
from typing import Literal

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
    small = {each.lower(): each for each in names}
    close = difflib.get_close_matches(shortened(name).lower(), small, n=3, cutoff=0.5)
    cure = f"Did you mean {' or '.join(small[each] for each in close)}? " if close else ""
    listed = f"Known: {', '.join(names)}." if names else "There are none at all: leave it out."
    return UserError(f"There is no {kind} called {shortened(name)!r}.", f"{cure}{listed}")


_INTACT = "what was stored before is intact"
_ELSEWHERE = f"name another folder (--home DIR, -o FILE); {_INTACT}."
_SYSTEM = {
    errno.ENOSPC: ("the disk is full", f"Free some space there, or {_ELSEWHERE}"),
    errno.EDQUOT: ("the disk quota is used up", f"Remove what you need no more, or {_ELSEWHERE}"),
    errno.EROFS: ("the disk is read-only", f"Only reading works there: {_ELSEWHERE}"),
    errno.EFBIG: (
        "the file would be larger than this system allows",
        f"Raise the limit (ulimit -f unlimited), or {_ELSEWHERE}",
    ),
    errno.EISDIR: ("it is a folder", "Name a file."),
    errno.ENOTDIR: ("a part of its path is a file, not a folder", f"Move that, or {_ELSEWHERE}"),
    errno.EEXIST: ("a part of its path is a file, not a folder", f"Move that, or {_ELSEWHERE}"),
    errno.ENAMETOOLONG: (
        "a name is longer than the file system allows",
        f"Give a shorter one; {_INTACT}.",
    ),
    errno.EMFILE: (
        "too many files are open",
        f"Allow more (ulimit -n 4096) and give the same command again; {_INTACT}.",
    ),
    errno.EIO: (
        "the disk or the network fails",
        f"See what the system says of it (dmesg), or {_ELSEWHERE}",
    ),
    errno.ESTALE: (
        "the network's disk has let go of it",
        f"Give the same command again; {_INTACT}.",
    ),
    errno.EAGAIN: (
        "another process has locked it",
        "Wait until that has ended (fuser -v shows which it is) and give the same command again.",
    ),
    errno.ELOOP: ("its links lead in a circle", "Remove the links, or name another file."),
}
_SYSTEM |= {
    errno.ENFILE: _SYSTEM[errno.EMFILE],
    errno.EBUSY: _SYSTEM[errno.EAGAIN],
    errno.ETIMEDOUT: _SYSTEM[errno.EIO],
}
_MAY_NOT = {
    "write": (
        "this user may not write there",
        f"Ask its owner (ls -ld shows who), or {_ELSEWHERE}",
    ),
    "read": ("this user may not read it", "Ask its owner, or make it readable: chmod u+r."),
    "open": ("this user may not", f"Ask its owner (ls -ld shows who), or {_ELSEWHERE}"),
}
_NOT_THERE = {
    "write": ("its folder cannot be made there", f"Check the path, or {_ELSEWHERE}"),
    "read": ("there is no such file", "Check the path."),
    "open": ("there is no such file", "Check the path."),
}


def refused(
    error: BaseException, path: object, doing: Literal["read", "write", "open"]
) -> UserError | None:
    """The error for what the operating system refuses; None if that is not what went wrong.

    Args:
        error: what was raised. HDF5 and safetensors report the system's error in words, without
            its number.
        path: which file or folder.
        doing: what was tried; "open" where that is not known.
    """
    number = getattr(error, "errno", None)
    known = {**_SYSTEM, errno.ENOENT: _NOT_THERE[doing]}
    known |= {errno.EACCES: _MAY_NOT[doing], errno.EPERM: _MAY_NOT[doing]}
    if number not in known:
        number = next((each for each in known if os.strerror(each) in str(error)), None)
    if number is None:
        return None
    cause, cure = known[number]
    return UserError(f"Cannot {doing} {path}: {cause}.", cure)


def in_one_line(error: BaseException) -> str:
    """What was raised, in one line without a full stop."""
    words = error.cause if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(words.split()).rstrip(".")


def shortened(text: str, most: int = 40) -> str:
    """A text in one line of at most so many characters, so that no message repeats a whole file."""
    line = " ".join(text[: 4 * most].split()).rstrip(".")
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[: most - 3]}..."
