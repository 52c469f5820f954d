"""Make the k-th call that touches a folder fail, as a disk does that is full, broken or shut."""

from __future__ import annotations

import builtins
import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest

CAUSES = (errno.ENOSPC, errno.EIO, errno.EACCES)


class Faults:
    """Counts the calls that open, make, write, flush, link or rename something in a folder.

    Args:
        folder: what lies elsewhere is left alone.
        failing: number of the call that fails, from 1; 0 for none.
        cause: the number of the system's error.
    """

    def __init__(self, folder: Path, failing: int, cause: int) -> None:
        self.folder, self.failing, self.cause = str(folder.resolve()), failing, cause
        self.calls: list[str] = []

    def meet(self, what: str, place: Any) -> None:
        """Count a call, and fail if it is the one."""
        if isinstance(place, int):
            link = Path(f"/proc/self/fd/{place}")
            place = link.readlink() if link.is_symlink() else ""
        path = str(Path(os.fspath(place)).absolute())
        if not path.startswith(self.folder):
            return
        self.calls.append(f"{what} {path.removeprefix(self.folder)}")
        if len(self.calls) == self.failing:
            raise OSError(self.cause, os.strerror(self.cause), path)


class _Raw(io.FileIO):
    """A file whose writing is counted."""

    faults: Faults

    def write(self, content: Any) -> int | None:
        self.faults.meet("write", self.name)
        return super().write(content)


@contextmanager
def faults(folder: Path, failing: int, cause: int = errno.ENOSPC) -> Iterator[Faults]:
    """Within the block the ``failing``-th call in a folder fails.

    What runs there takes itself for another process, which will have ended after the block.
    """
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as ended:
        pass
    counted = Faults(folder, failing, cause)
    opened = io.open

    def open_(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **known: Any) -> Any:
        if isinstance(file, int):  # it is open
            return opened(file, mode, buffering, *rest, **known)
        counted.meet("open", file)
        if not set(mode) & set("wax"):
            return opened(file, mode, buffering, *rest, **known)
        opener = known.pop("opener", None)
        raw = _Raw(file, mode.replace("b", "").replace("t", ""), opener=opener)
        raw.faults = counted
        if buffering == 0:
            return raw
        buffered = io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *rest, **known)

    def counting(what: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted_call(place: Any, *rest: Any, **known: Any) -> Any:
            counted.meet(what, place)
            return call(place, *rest, **known)

        return counted_call

    def create(group: Any, name: Any, *rest: Any, **known: Any) -> Any:
        counted.meet("write", group.file.filename)
        return created(group, name, *rest, **known)

    def assign(array: Any, rows: Any, values: Any) -> None:
        counted.meet("write", array.file.filename)
        assigned(array, rows, values)

    def flush(_: int) -> None:
        """Nothing, which is quick: the disk of a test need not hold."""

    created, assigned = h5py.Group.create_dataset, h5py.Dataset.__setitem__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", flush)
        for name in ("open", "write", "fsync", "replace", "rename", "mkdir", "link"):
            patch.setattr(os, name, counting(name, getattr(os, name)))
        patch.setattr(os, "getpid", lambda: ended.pid)
        patch.setattr(io, "open", open_)
        patch.setattr(builtins, "open", open_)
        patch.setattr(h5py.Group, "create_dataset", create)
        patch.setattr(h5py.Dataset, "__setitem__", assign)
        yield counted
