"""Who is at work on what: processes by name, and claims on an artefact that is being made.

A claim spares work, and correctness never rests on it: artefacts are renamed into place whole, so
two processes that make one artefact at once lose time only. That is what happens where a claim
cannot be trusted: its owner was stopped for a minute and goes on, or two waiters take over at the
same moment.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from robustbench_pcl.errors import refused

HEARTBEAT_SECONDS = 5.0
"""How often the owner of a claim touches it."""
SILENCE_SECONDS = 60.0
"""An owner elsewhere is dead after so long without a touch, by the clock of who waits: clocks of
two machines differ."""
POLL_SECONDS = 0.5
OWNER, LONGEST = "owner.json", 4096
"""The file of a claim, and the characters of it that are read."""
_HELD: set[str] = set()
"""What the claims say that this process holds."""
_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process, so named that its name is never another's.

    Attributes:
        host: the machine's name, for people.
        machine: what tells machines apart, and containers on one: 8 hexadecimal digits.
        pid: the process id, which is used again when the process is gone.
        started: when it began, in the kernel's ticks; 0 where that cannot be had.
    """

    host: str
    machine: str
    pid: int
    started: int

    @classmethod
    def own(cls) -> Process:
        """This process."""
        return cls(socket.gethostname(), _machine(), os.getpid(), _started(os.getpid()) or 0)

    @property
    def token(self) -> str:
        """It, in a file's name, together with what makes the name unique."""
        return f"{self.machine}-{self.pid}-{self.started}-{uuid.uuid4().hex[:8]}"

    @classmethod
    def of_token(cls, machine: str, pid: str, started: str) -> Process:
        """The process of a token's first three fields."""
        return cls("", machine, int(pid), int(started))

    @property
    def dead(self) -> bool:
        """Whether it has certainly ended; of another machine's process nothing is certain."""
        if self.machine != _machine() or os.name == "nt":  # Windows has no signal that asks
            return False
        started = _started(self.pid)
        if started is not None:
            return started != self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):  # another user's
            return False
        return False


def _started(pid: int) -> int | None:
    """When a process began, in the kernel's ticks; -1 for a zombie, None where that is hidden."""
    try:
        state = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return -1 if state[0] in "ZX" else int(state[19])


@cache
def _machine() -> str:
    """What tells machines, their starts, and the containers on them apart."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append((_PROC / "sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink(_PROC / "self/ns/pid"))  # noqa: PTH115 - no path, but a number
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


@contextlib.contextmanager
def claimed(
    folder: Path, key: str, *, waiting: Callable[[str], None], done: Callable[[], bool]
) -> Iterator[bool]:
    """Claim an artefact; while another process has claimed it, wait.

    A claim is a folder with a file that says whose it is. It is filled before it is renamed into
    place, where no other must lie: one step, on a disk that many machines share, too.

    Args:
        folder: of claims.
        key: of the artefact, a good file name.
        waiting: told once for whom this process waits: "process 12 on node3".
        done: whether the artefact is there by now.

    Yields:
        Whether it is to be made here: it is not done, and the claim is this process's until the
        block ends.

    Raises:
        UserError: a claim cannot be written.
    """
    claim = folder / key
    seen, changed, told = "", time.monotonic(), False
    while True:
        try:
            mine = _take(claim)
        except OSError as error:
            raise refused(error, claim, "write") or error from error
        if mine:
            break
        if done():
            yield False
            return
        now = _look(claim)
        if now != seen:
            seen, changed = now, time.monotonic()
        if _given_up(seen) or time.monotonic() - changed > SILENCE_SECONDS:
            _remove(claim, seen)
            continue
        owner = _owner(seen)
        if owner and not told:
            waiting(f"process {owner.pid} on {owner.host}")
            told = True
        time.sleep(POLL_SECONDS)
    content, handle = mine
    _HELD.add(content)
    try:
        with _beating(handle):
            yield not done()
    finally:
        os.close(handle)
        _HELD.discard(content)
        _remove(claim, content)


def remove_dead(folder: Path) -> None:
    """Remove the claims that nobody holds any more."""
    for claim in folder.glob("[!.]*"):
        seen = _look(claim)
        if _given_up(seen):
            _remove(claim, seen)


def _take(claim: Path) -> tuple[str, int] | None:
    """Make a claim: what it says, and its open file; None if there is one already."""
    own = Process.own()
    if claim.exists():
        return None
    new = claim.with_name(f".{claim.name}-new-{own.token}")
    new.mkdir(parents=True)
    content = json.dumps({**asdict(own), "claim": new.name})
    handle = os.open(new / OWNER, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.write(handle, content.encode())
        new.rename(claim)
    except BaseException as error:
        os.close(handle)
        shutil.rmtree(new, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return None
        raise
    return content, handle


@contextlib.contextmanager
def _beating(handle: int) -> Iterator[None]:
    """Touch the file of a claim again and again, so that others see that its owner lives."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):  # another process took over
                os.utime(handle)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _look(claim: Path) -> str:
    """What a claim says, and when it was touched; "" where it cannot be read.

    The file is opened, which asks the server where the disk is over a network; not to block is for
    what is no file.
    """
    with contextlib.suppress(OSError, ValueError):
        handle = os.open(claim / OWNER, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(handle, encoding="utf-8") as file:  # noqa: PTH123 - it is open
            return f"{os.fstat(handle).st_mtime_ns}\n{file.read(LONGEST)}"
    return ""


def _owner(seen: str) -> Process | None:
    """Whose claim that is; None if it does not say."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        said = json.loads(seen.partition("\n")[2])
        host = "".join(filter(str.isprintable, str(said["host"])))
        return Process(host, str(said["machine"]), int(said["pid"]), int(said["started"]))
    return None


def _given_up(seen: str) -> bool:
    """Whether a claim's owner has ended, or is this process, and could not remove it."""
    owner, own = _owner(seen), Process.own()
    if owner is None:
        return False
    if (owner.machine, owner.pid, owner.started) == (own.machine, own.pid, own.started):
        return seen.rpartition("\n")[2] not in _HELD
    return owner.dead


def _remove(claim: Path, seen: str) -> None:
    """Remove a claim that was seen, and no other: of many who try, one succeeds.

    It is moved aside and looked at again; a newer one is put back, unless a third stands there.
    """
    content = seen.rpartition("\n")[2]
    aside = claim.with_name(f".{claim.name}-new-{Process.own().token}")
    if _look(claim).rpartition("\n")[2] != content:
        return
    with contextlib.suppress(OSError):
        claim.rename(aside)
        if _look(aside).rpartition("\n")[2] != content:
            with contextlib.suppress(OSError):
                aside.rename(claim)
        shutil.rmtree(aside, ignore_errors=True)
