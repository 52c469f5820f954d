"""What an executor is, and what those that run jobs elsewhere share."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.jobs.driver import Driver, Submit
from robustbench_pcl.jobs.plan import Job
from robustbench_pcl.jobs.ticket import Ticket
from robustbench_pcl.specs.base import Spec


class Executor(Spec, ABC):
    """A way to run jobs; its fields are what ``--executor-option`` sets.

    Attributes:
        elsewhere: whether jobs run in other processes, perhaps on other machines.
    """

    elsewhere: ClassVar[bool] = False

    @abstractmethod
    def execute(self, jobs: Sequence[tuple[Job, float]], bench: Bench) -> None:
        """Run jobs until all their artefacts are stored.

        Args:
            jobs: in an order that works, each with about how many seconds it takes.
            bench: where they run.
        """


class Cluster(Executor):
    """Each job is a process of its own, on any machine that sees the same folders.

    Attributes:
        cpus: processor cores a job, and its threads.
        gpus: accelerators a job; one if this machine's device is one, else none.
    """

    elsewhere: ClassVar[bool] = True

    cpus: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[int, Field(ge=0)] | None = None

    @abstractmethod
    def connected(self, folder: Path, gpus: int) -> contextlib.AbstractContextManager[Submit]:
        """The way to send commands, for as long as the block lasts.

        Args:
            folder: for files of the executor's own.
            gpus: accelerators a job.

        Raises:
            UserError: the cluster or its Python package is not there.
        """

    def execute(self, jobs: Sequence[tuple[Job, float]], bench: Bench) -> None:
        """Send each job when what it needs is stored; see :class:`Driver`.

        Tickets and logs are in a folder under ``results/jobs``; it is removed unless a job failed.
        """
        runs = bench.home.results.resolve() / "jobs"
        runs.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=runs, prefix=time.strftime("%Y%m%d-%H%M%S-")))
        gpus = int(bench.device.type == "cuda") if self.gpus is None else self.gpus
        with self.connected(folder, gpus) as submit:
            Driver(jobs, bench, lambda job: submit(self._command(job, bench, folder)), folder).run()
        shutil.rmtree(folder, ignore_errors=True)

    def _command(self, job: Job, bench: Bench, folder: Path) -> list[str]:
        """The shell command that runs a job; what it prints goes to the job's log."""
        ticket = folder / f"{job.key}.json"
        Ticket.of(job, bench).write(ticket)
        logged = 'exec "$@" >> "$0" 2>&1'
        worker = [sys.executable, "-u", "-m", "robustbench_pcl.jobs.worker", str(ticket)]
        threads = f"OMP_NUM_THREADS={self.cpus}"
        return ["sh", "-c", logged, str(ticket.with_suffix(".log")), "env", threads, *worker]
