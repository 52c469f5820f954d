"""Replace a whole folder so that a killed process leaves the old one or the new one, never half."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

STALE_SECONDS = 24 * 3600
"""After so long, an unfinished folder belongs to a process that was killed."""


TAKEN = {errno.EEXIST, errno.ENOTEMPTY}
"""What systems say when a folder is renamed to one that exists."""


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of ``folder`` when the block ends well.

    The new folder is complete and on disk before ``folder`` is moved aside, and ``folder`` is
    deleted only when the new one stands in its place. If the process dies between those two moves,
    `bring_back` undoes the first.

    Args:
        folder: need not exist.

    Raises:
        OSError: the disk refuses.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    bring_back(folder)
    _sweep(folder)
    new = _sibling(folder, "new")
    new.mkdir()
    try:
        yield new
        _flush(new)
        _take_place(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    _sweep(folder)


def bring_back(folder: Path) -> None:
    """Undo a replacement that was killed after ``folder`` was moved aside."""
    if folder.exists():
        return
    asides = folder.parent.glob(f".{folder.name}-old-*")
    with contextlib.suppress(FileNotFoundError):  # another process may be doing the same
        for newest in sorted(asides, key=lambda aside: aside.stat().st_mtime)[-1:]:
            newest.rename(folder)


def _sibling(folder: Path, kind: str) -> Path:
    return folder.with_name(f".{folder.name}-{kind}-{uuid.uuid4().hex}")


def _take_place(new: Path, folder: Path) -> None:
    while True:  # another process may put its own folder there between our two moves
        try:
            new.rename(folder)
            break
        except OSError as error:
            if error.errno not in TAKEN:
                raise
        with contextlib.suppress(FileNotFoundError):
            folder.rename(_sibling(folder, "old"))
    _flush_entries(folder.parent)


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    _flush_entries(folder)


def _flush_entries(folder: Path) -> None:
    if os.name == "nt":  # Windows has no handle on a folder to flush
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Delete what killed processes left beside a ``folder`` that is whole."""
    if folder.exists():
        for old in folder.parent.glob(f".{folder.name}-old-*"):
            shutil.rmtree(old, ignore_errors=True)
    for new in folder.parent.glob(f".{folder.name}-new-*"):
        with contextlib.suppress(FileNotFoundError):  # another process has just finished it
            if time.time() - new.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(new, ignore_errors=True)
