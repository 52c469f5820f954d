"""Files and folders that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from robustbench_pcl.errors import UserError, refused
from robustbench_pcl.store.claims import Process

STALE_SECONDS = 24 * 3600
"""After so long, a temporary file or folder belongs to a process that was killed."""
NAME_LENGTH = 60
"""Characters of a file's name that its temporary name repeats, for people: 255 bytes is the limit
of most file systems, and a character has four at most. (Folders' names are short.)"""
_SWEPT: set[Path] = set()
"""Folders into which this process has written: each is swept once, since it may be large."""
_OLDER = "[0-9a-f]{32}"
_PROCESS = r"(?P<machine>[0-9a-f]{8})-(?P<pid>\d{1,10})-(?P<started>\d{1,20})-[0-9a-f]{8}"
TEMPORARY = re.compile(rf"\..+(?:\.|-new-)(?:{_OLDER}|{_PROCESS})(?:\.tmp)?", re.DOTALL)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that ``path`` always holds the old content or the new, never a part.

    Yields the name of a temporary file beside ``path``; when the block ends without an exception
    it is flushed to the disk and renamed over ``path``, otherwise removed.

    Raises:
        UserError: the disk is full, read-only, or not writable by this user; or what is there is
            no file, and would not come back (a device, a pipe).
    """
    temporary: Path | None = None
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            cause = f"{path} is a device or a pipe, and no file takes its place."
            raise UserError(cause, "Name another file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        if (folder := path.parent.absolute()) not in _SWEPT:
            _SWEPT.add(folder)
            sweep(folder, path.name)
        # Not mkstemp, whose files only this user may read: artefacts are shared in a lab.
        temporary = _temporary(path)
        temporary.touch(exist_ok=False)
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except (OSError, RuntimeError) as error:  # HDF5 raises either of them
        raise refused(error, path, "write") or error from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Find out now, not after hours of work, whether files can be written into a folder.

    Raises:
        UserError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise refused(error, folder, "write") or error from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` in one step (see :func:`replacing`)."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def set_aside(path: Path, place: Path | None = None) -> Path:
    """Rename a file that is not to be believed, so that nothing of it is lost.

    Args:
        path: the file.
        place: its new name; ``path`` with ``.bad`` behind it if None. If that is taken, a number
            follows.

    Returns:
        Its new name.

    Raises:
        UserError: the disk refuses.
    """
    wanted = place or path.with_name(f"{path.name}.bad")
    numbered = (wanted.with_name(f"{wanted.name}-{number}") for number in itertools.count(2))
    free = next(name for name in itertools.chain([wanted], numbered) if not os.path.lexists(name))
    try:
        free.parent.mkdir(parents=True, exist_ok=True)
        path.rename(free)
    except OSError as error:
        raise refused(error, free, "write") or error from error
    return free


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder for files that takes the place of ``folder`` when the block ends well.

    The new folder is complete and on the disk before ``folder`` is moved aside, and ``folder`` is
    deleted only when the new one stands in its place. If the process dies between those two moves,
    :func:`bring_back` undoes the first.

    Args:
        folder: need not exist.

    Raises:
        OSError: the disk refuses.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    bring_back(folder)
    sweep(folder.parent, folder.name)
    new = _new(folder)
    new.mkdir()
    try:
        yield new
        for path in (*new.iterdir(), new):
            _flush(path)
        # Listed before the move: what another process moves aside later is its way back.
        asides = list(folder.parent.glob(f".{folder.name}-old-*"))
        while True:  # another process may put its own folder there between our two moves
            try:
                new.rename(folder)
                break
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            with contextlib.suppress(FileNotFoundError):
                asides.append(folder.rename(_new(folder, "old")))
        _flush(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    for aside in asides:  # renamed first, so that nobody brings back what is half deleted
        with contextlib.suppress(OSError):
            shutil.rmtree(aside.rename(new), ignore_errors=True)


@contextlib.contextmanager
def filling_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder for files and folders that becomes ``folder`` when the block ends well.

    Nothing is ever replaced.

    Raises:
        UserError: ``folder`` is there and not empty, or the disk refuses.
    """
    new = _new(folder)
    try:
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(errno.ENOTEMPTY, "not empty", str(folder))
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent, folder.name)
        new.mkdir()
        yield new
        for path in (*new.rglob("*"), new):
            _flush(path)
        new.rename(folder)  # over an empty folder, but over no other
        _flush(folder.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            cure = "Name a folder that is empty or not there: what lies in it is not replaced."
            raise UserError(f"{folder} is not empty.", cure) from error
        raise refused(error, folder, "write") or error from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def bring_back(folder: Path) -> None:
    """Undo a replacement that was killed after ``folder`` was moved aside."""
    if folder.exists():
        return
    asides = folder.parent.glob(f".{folder.name}-old-*")
    try:
        for newest in sorted(asides, key=lambda aside: aside.stat().st_mtime)[-1:]:
            newest.rename(folder)
    except OSError as error:  # another process did the same first, or put its own folder there
        if error.errno not in (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY):
            raise


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; a part of a folder is never seen.

    Raises:
        UserError: the disk refuses.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path.rename(_new(path)))
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        pass  # another process removed it first
    except OSError as error:
        raise refused(error, path, "write") or error from error


@contextlib.contextmanager
def passing_folder(parent: Path) -> Iterator[Path]:
    """Give an empty folder for what is looked at before it takes its place; gone in the end.

    Raises:
        UserError: the disk refuses it.
    """
    folder = _new(parent / "passing")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        folder.mkdir()
    except OSError as error:
        raise refused(error, folder, "write") or error from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_left_over(path: Path, name: str = "") -> bool:
    """Whether a killed process left it of an earlier write.

    That is what lies there for a day, and at once what a process of this machine made that is gone.

    Args:
        path: a file or a folder.
        name: of a file or folder that is about to be written; what looks like an earlier write of
            it is left over after a day, whatever wrote it.
    """
    found = TEMPORARY.fullmatch(path.name)
    of_name = name and (
        (path.name.startswith(f".{name}.") and path.name.endswith(".tmp"))
        or path.name.startswith(f".{name}-new-")
    )
    if found is None and not of_name:
        return False
    stale = time.time() - path.lstat().st_mtime > STALE_SECONDS
    return stale or bool(found and found["pid"] and Process.of_token(*found.groups()).dead)


def sweep(folder: Path, name: str = "") -> None:
    """Remove what killed processes left in a folder of earlier writes; it need not be there.

    Args and what that is: see :func:`is_left_over`.
    """
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):  # another process may be doing the same
                if path.name.startswith(".") and is_left_over(path, name):
                    is_folder = path.is_dir() and not path.is_symlink()
                    (shutil.rmtree if is_folder else os.unlink)(path)


def _temporary(path: Path) -> Path:
    """A new name for a file that will be renamed to ``path``; it says whose it is.

    Of a long name the head, so that the other is no longer than the file system allows.
    """
    return path.with_name(f".{path.name[:NAME_LENGTH]}.{Process.own().token}.tmp")


def _new(folder: Path, what: str = "new") -> Path:
    """A new name for a folder that will be renamed to another, or out of its way."""
    return folder.with_name(f".{folder.name}-{what}-{Process.own().token}")


def _flush(path: Path) -> None:
    """Ask the operating system to put a file, or a folder's entries, on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder; its rename is journaled
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
