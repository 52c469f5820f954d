"""Workers: processes on this machine, each of which does one task after another."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from robustbench_pcl.environment import accelerators
from robustbench_pcl.pipeline.executors import WORKER, Cluster
from robustbench_pcl.pipeline.scheduler import Submission, Submit

STOP_SECONDS = 10.0
"""How long a worker may take to leave, before it is killed."""


class Workers(Cluster):
    """So many processes on this machine: one on each accelerator in turn, or on its share of cores.

    Python and torch start once in each of them. One that is killed is replaced.

    Attributes:
        workers: how many.
        cpus: cores of each, and its threads; an equal share of those there are if 0.
    """

    name: ClassVar[str] = "workers"
    elsewhere: ClassVar[bool] = False
    here: ClassVar[bool] = True

    workers: Annotated[int, Field(ge=1)] = 2
    cpus: Annotated[int, Field(ge=0)] = 0

    @contextlib.contextmanager
    def connected(self, folder: Path, gpus: int) -> Iterator[Submit]:
        """Give commands to workers; there is one that is free for as many as there are workers."""
        devices = accelerators() if gpus else []
        shares = places(self.workers, _cores(), devices, self.cpus)
        pool = [
            _Worker(folder, number, cores, device)
            for number, (cores, device) in enumerate(shares, start=1)
        ]

        def submit(command: list[str]) -> Submission:
            return next(worker for worker in pool if worker.free).take(Path(command[0]))

        try:
            yield submit
        finally:
            for worker in pool:
                worker.leave()

    def stop(self, identity: str) -> None:
        """Nothing is left to do: a worker leaves when the process that sent its task is gone."""

    def _command(self, file: Path) -> list[str]:
        """What a worker reads: the name of the task's file."""
        return [str(file)]


def places(
    workers: int, cores: Sequence[int], devices: Sequence[str], cpus: int = 0
) -> Iterator[tuple[list[int], str | None]]:
    """The cores of each worker, and the accelerator that it sees, or None.

    Args:
        workers: how many.
        cores: that there are.
        devices: accelerators that there are, taken in turn.
        cpus: cores of each worker; an equal share if 0.
    """
    share = min(cpus or max(1, len(cores) // workers), len(cores))
    for number in range(workers):
        own = [cores[(number * share + each) % len(cores)] for each in range(share)]
        yield own, devices[number % len(devices)] if devices else None


class _Worker:
    """A process that does tasks; it is started when it has one, and again after it died.

    Args:
        folder: with the files of its tasks.
        number: of it; a file called after it has what it prints outside tasks.
        cores: which it runs on, and as many threads.
        device: the accelerator that it sees, or None.
    """

    def __init__(self, folder: Path, number: int, cores: Sequence[int], device: str | None) -> None:
        self._folder, self._cores = folder, cores
        self._output = folder / f"worker{number}.log"
        threads = str(len(cores))
        self._environment = {**os.environ, "OMP_NUM_THREADS": threads}
        if device is not None:
            self._environment["CUDA_VISIBLE_DEVICES"] = device
        self._process: subprocess.Popen[bytes] | None = None
        self._given: _Given | None = None

    @property
    def free(self) -> bool:
        """Whether it has nothing to do."""
        return self._given is None or self._given.over()

    def take(self, file: Path) -> Submission:
        """Do the task in a file."""
        file.with_suffix(".ended").unlink(missing_ok=True)
        if self._process is None or self._process.poll() is not None:
            self.leave()
            self._process = self._start()
        assert self._process.stdin is not None  # it is a pipe
        with contextlib.suppress(BrokenPipeError):  # it died just now, and so the task is over
            self._process.stdin.write(os.fsencode(file.name) + b"\n")
        self._given = _Given(file, self._process)
        return self._given

    def leave(self) -> None:
        """Let it go, at once."""
        if self._process is not None:
            _end(self._process)

    def _start(self) -> subprocess.Popen[bytes]:
        """Start the process, in a session of its own: Ctrl-C is for who sends the tasks."""
        with self._output.open("ab") as output:
            process = subprocess.Popen(
                [*WORKER, str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                bufsize=0,
                env=self._environment,
                start_new_session=True,
            )
        if hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError):  # it died, or cores were taken away
                os.sched_setaffinity(process.pid, self._cores)
        return process


@dataclass(frozen=True)
class _Given:
    """A task that a worker was given."""

    file: Path
    process: subprocess.Popen[bytes]

    @property
    def identity(self) -> str:
        """The process."""
        return str(self.process.pid)

    def over(self) -> bool:
        """Whether the worker said so, or is gone."""
        return self.file.with_suffix(".ended").exists() or self.process.poll() is not None

    def taken_away(self) -> str | None:
        """None: nobody takes a worker away."""
        return None

    def cancel(self) -> None:
        """Stop the worker unless it is done with this; another one starts for the next task."""
        if not self.over():
            _end(self.process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process: it may leave by itself first."""
    with process:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _cores() -> list[int]:
    """The cores that this process may run on, at least one."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
