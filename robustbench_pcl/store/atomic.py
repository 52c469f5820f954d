"""Files and folders that are either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from robustbench_pcl.errors import UserError

STALE_SECONDS = 24 * 3600
"""After so long, a temporary file or folder belongs to a process that was killed."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file so that ``path`` always holds the old content or the new, never a part.

    Yields the name of a temporary file beside ``path``; when the block ends without an exception
    it is flushed to the disk and renamed over ``path``, otherwise removed.

    Raises:
        UserError: the disk is full, read-only, or not writable by this user.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            _remove_if_stale(left)
        # Not mkstemp, whose files only this user may read: artefacts are shared in a lab.
        temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
        temporary.touch(exist_ok=False)
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise _as_user_error(error, path) from error
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
        raise _as_user_error(error, folder) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` in one step (see :func:`replacing`)."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; a part of a folder is never seen.

    Raises:
        UserError: the disk refuses.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            aside = path.with_name(f".{path.name}-new-{time.time_ns():032x}")
            shutil.rmtree(path.rename(aside))
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        pass  # another process removed it first
    except OSError as error:
        cure = "See who owns it (ls -ld), and whether its disk works; what is left is whole."
        raise UserError(f"Cannot remove {path}: {error.strerror}.", cure) from error


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
    for left in folder.parent.glob(f".{folder.name}-new-*"):
        _remove_if_stale(left)
    new = folder.with_name(f".{folder.name}-new-{uuid.uuid4().hex}")
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
                aside = folder.with_name(f".{folder.name}-old-{uuid.uuid4().hex}")
                asides.append(folder.rename(aside))
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
    new = folder.with_name(f".{folder.name}-new-{uuid.uuid4().hex}")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(errno.ENOTEMPTY, "not empty", str(folder))
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{glob.escape(folder.name)}-new-*"):
            _remove_if_stale(left)
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
        raise _as_user_error(error, folder) from error
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


def _remove_if_stale(path: Path) -> None:
    """Remove what a killed process left of an earlier write."""
    with contextlib.suppress(OSError):  # another process may be doing the same
        if time.time() - path.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _flush(path: Path) -> None:
    """Ask the operating system to put a file, or a folder's entries, on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder; its rename is journaled
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EEXIST: "a part of its path is a file, not a folder",
    errno.ENOENT: "its folder cannot be made there",
    errno.EFBIG: "the file would be larger than this system allows",
}


def _as_user_error(error: OSError, path: Path) -> Exception:
    cause = _CAUSES.get(error.errno or 0)
    if cause is None:
        # HDF5 and safetensors report the system's error in words, without its number.
        words = str(error)
        found = [text for number, text in _CAUSES.items() if os.strerror(number) in words]
        if not found:
            return error
        cause = found[0]
    return UserError(
        f"Cannot write {path}: {cause}.",
        "Free some space or name another folder with --home DIR; what was stored before is intact.",
    )
