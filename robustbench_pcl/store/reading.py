"""Read files that may come from anywhere: what it costs is bounded, whatever a file says.

A workspace is copied, merged and passed on, so what lies in it is looked at before it is read: a
regular file of a bounded size, and no link that leads out. Text is then parsed with bounds on its
depth, its numbers and how many parts it has.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from robustbench_pcl.errors import DamagedSetError, UserError, refused, shortened

MOST_DEPTH = 100
"""Levels of lists and tables within each other."""
MOST_PARTS = 1_000_000
"""Lists and tables in one text; five times as many values."""
MOST_DIGITS = 400
"""Characters of a number: a float's every digit fits."""
MOST_DOTS = 200
"""In one line of TOML: its parser takes the square of a dotted key's length."""
LARGEST_HOLE, MOST_HOLES = 2**28, 100
"""Bytes that may cost no disk, and how many times more than it takes a larger file may have."""
LARGEST_TOML = 2**20
"""Bytes of a suite or a file of recipes."""

MOVE_AWAY = "Move it away and run the command again to make it again."

A = TypeVar("A")
PassedOver = Callable[[UserError], None]
"""Is told why a file is left out."""

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_bounded(path: Path, most_bytes: int, what: str, within: Path | None = None) -> bytes:
    """The whole content of a regular file.

    It is looked at before it is opened, is opened so that nothing waits, and is looked at again
    when it is open, in case that it was exchanged in between.

    Args:
        path: the file.
        most_bytes: that it may have.
        what: such a file is called, for errors: "measurement".
        within: a folder that links may not leave; None where the user named the file.

    Raises:
        UserError: there is none, it is none (a folder, a pipe, a device, a link that leads nowhere
            or out), this user may not read it, or it is too large.
    """
    check_file(path, most_bytes, what, within)
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            _check_status(os.fstat(handle), path, most_bytes, what)
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise cannot_read(path, error) from error
    if len(content) > most_bytes:  # it grew, or lies in a system that does not tell sizes
        raise _too_large(path, f"more than {most_bytes:,}", most_bytes, what)
    return content


def load_each(
    files: Iterable[Path], read: Callable[[Path], A], passed_over: PassedOver | None = None
) -> list[A]:
    """What some files hold, by their names; those that cannot be read stop no other.

    Args:
        files: in any order.
        read: reads one.
        passed_over: is told why a file is left out; None to raise that.

    Raises:
        UserError: a file cannot be read, and ``passed_over`` is None.
    """
    found = []
    for path in sorted(files):
        try:
            found.append(read(path))
        except UserError as error:
            if passed_over is None:
                raise
            passed_over(error)
    return found


def warn(error: UserError) -> None:
    """Say as a warning why a file is left out: for notebooks."""
    warnings.warn(f"Left out: {error}", stacklevel=2)


def check_file(path: Path, most_bytes: int, what: str, within: Path | None = None) -> None:
    """Check that a file can be opened: for those that a library opens by name.

    Args and errors are those of :func:`read_bounded`.
    """
    try:
        if within is not None and path.is_symlink():
            _check_link(path, within)
        _check_status(path.stat(), path, most_bytes, what)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise cannot_read(path, error) from error


def cannot_read(path: Path, error: Exception) -> UserError:
    """The error for a file that the system refuses, each with its own cause."""
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT and path.is_symlink():
        return UserError(
            f"Cannot read {path}: it is a link to {path.readlink()}, which is not there.",
            "Bring that back, or remove the link.",
        )
    words = (isinstance(error, OSError) and error.strerror) or str(error)
    return refused(error, path, "read") or UserError(
        f"Cannot read {path}: {words}.", "Check the path and its disk."
    )


def damaged(path: Path, why: Exception | str) -> UserError:
    """The error for an adversarial set, or a part of one, that is not what was once written.

    Args:
        path: its file.
        why: what is wrong; an error of the system is no damage, and has its own cause.
    """
    if isinstance(why, OSError):
        return cannot_read(path, why)
    reason = shortened((str(why).splitlines() or [type(why).__name__])[0], 200)
    if isinstance(why, KeyError):
        reason = f"it has no {why.args[0]}"
    return DamagedSetError(
        f"{path} is not a whole adversarial set: {reason}.",
        f"Move it away (mv {path.name} {path.name}.bad) and run the command again to make it.",
    )


def _check_link(path: Path, within: Path) -> None:
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(os.path.realpath(within)):
        raise UserError(
            f"{path} is a link that leads out of {within}, and is not followed.",
            "Put the file itself in its place, or remove the link.",
        )


def _check_status(status: os.stat_result, path: Path, most_bytes: int, what: str) -> None:
    kind = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), None)
    if kind is not None:
        raise UserError(
            f"{path} is {kind}, not a {what}.", "Move it away, or name a file that holds one."
        )
    if status.st_size > LARGEST_HOLE and status.st_size > MOST_HOLES * _on_disk(status):
        raise UserError(
            f"{path} says that it has {status.st_size:,} bytes, but is nearly nothing but a hole.",
            "It is incomplete, or pclbench did not write it: move it away.",
        )
    if status.st_size > most_bytes:
        raise _too_large(path, f"{status.st_size:,}", most_bytes, what)


def _on_disk(status: os.stat_result) -> int:
    """Bytes that a file takes; its size where the system does not tell."""
    blocks: int | None = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else 512 * blocks


def _too_large(path: Path, found: str, most_bytes: int, what: str) -> UserError:
    return UserError(
        f"{path} has {found} bytes; a {what} has at most {most_bytes:,}.",
        "It is damaged or another kind of file: move it away.",
    )


def parse_json(content: bytes | str, what: str, cure: str = MOVE_AWAY) -> Any:
    """What a JSON text from anywhere says.

    Args:
        content: UTF-8.
        what: begins the error: "FILE is not a measurement".
        cure: what to do where it cannot be read.

    Raises:
        UserError: it is not JSON, is too deep or has too many parts, names a key twice, or holds a
            number that is not finite or beyond 64 bits.
    """
    try:
        text = _decoded(content)
        _check_length(text)
        value = json.loads(
            text,
            object_pairs_hook=_without_repetition,
            parse_float=_bounded_float,
            parse_constant=_no_constant,
        )
        _check_values(value)
    except (ValueError, RecursionError) as error:
        raise _not_read(content, what, error, cure) from error
    return value


def parse_toml(content: bytes | str, what: str, cure: str) -> dict[str, Any]:
    """What a TOML text from anywhere says; a byte order mark is passed over.

    Args and errors are those of :func:`parse_json`.
    """
    try:
        text = _decoded(content)
        _check_length(text)
        if any(line.count(".") > MOST_DOTS for line in text.split("\n")):
            raise ValueError(f"a line has more than {MOST_DOTS} dots")
        value = tomllib.loads(text, parse_float=_bounded_float)
        _check_values(value)
    except (ValueError, RecursionError) as error:
        raise _not_read(content, what, error, cure) from error
    return value


def _decoded(content: bytes | str) -> str:
    return content if isinstance(content, str) else content.decode("utf-8-sig")


def _check_length(text: str) -> None:
    """Bound what the parsed values take: an empty list has 2 characters and takes 64 bytes."""
    if text.count("[") + text.count("{") > MOST_PARTS or text.count(",") > 5 * MOST_PARTS:
        raise ValueError("it has millions of parts")


def _bounded_float(text: str) -> float:
    value = float(text) if len(text) <= MOST_DIGITS else math.inf
    if not math.isfinite(value):
        raise ValueError(f"{shortened(text)} is not a number that can be computed with")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"it says {shortened(twice)!r} twice")
    return found


def _check_values(value: Any) -> None:
    """Refuse what is too deep, an integer beyond 64 bits, and half a character.

    Types are compared, since ``isinstance`` is asked for every number of a thousand records.

    Raises:
        ValueError: which of them.
    """
    level: list[Any] = [value]
    depth = 0
    while level:
        depth += 1
        inside: list[Any] = []
        for each in level:
            kind = type(each)
            if kind is str:
                each.isascii() or each.encode()  # half of a pair of surrogates: a UnicodeError
            elif kind is dict:
                inside += each
                inside += each.values()
            elif kind is list:
                inside += each
            elif kind is int and each.bit_length() > 64:
                raise ValueError("an integer has more than 64 bits")
        if inside and depth > MOST_DEPTH:
            raise ValueError(f"it has more than {MOST_DEPTH} levels of lists and tables")
        level = inside


def _not_read(content: bytes | str, what: str, error: Exception, cure: str) -> UserError:
    head = content[:LARGEST_TOML]
    if "<<<<<<< " in (head if isinstance(head, str) else head.decode(errors="replace")):
        return UserError(
            f"{what}: it holds the marks of a merge (<<<<<<<), two versions of one file.",
            "Keep one of them: git checkout --ours FILE, or --theirs.",
        )
    reason = "it has too many levels" if isinstance(error, RecursionError) else str(error)
    return UserError(f"{what}: {shortened(reason, 200)}.", cure)
