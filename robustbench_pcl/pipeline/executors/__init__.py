"""Where tasks run: in this process, as Slurm jobs, as Ray tasks."""

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

from robustbench_pcl.configuration import Count, Description
from robustbench_pcl.environment import has_accelerator
from robustbench_pcl.pipeline.artefacts import AnyTask, Artefacts
from robustbench_pcl.pipeline.scheduler import Scheduler, Submit
from robustbench_pcl.pipeline.worker import TaskFile
from robustbench_pcl.registry import Family

Work = Sequence[tuple[AnyTask, float]]
"""Tasks in an order that works, each with its share of the whole: about how many seconds."""


class Executor(Description, ABC):
    """A way to run tasks; its fields are what ``--executor-option`` sets.

    Attributes:
        elsewhere: whether tasks run in other processes, perhaps on other machines.
    """

    elsewhere: ClassVar[bool] = False

    @abstractmethod
    def execute(self, work: Work, artefacts: Artefacts) -> None:
        """Run tasks until all their artefacts are stored.

        Args:
            work: in an order that works.
            artefacts: where they are found and made.

        Raises:
            UserError: a task cannot be done.
        """


class Local(Executor):
    """One task after the other, in this process."""

    def execute(self, work: Work, artefacts: Artefacts) -> None:
        """Make each artefact in turn; one that is there by now is passed over."""
        total = sum(seconds for _, seconds in work)
        with artefacts.progress.task(f"{len(work)} steps", total) as advance:
            for done, (task, seconds) in enumerate(work, start=1):
                artefacts.make(task)
                advance(seconds, f"{done} done")


class Cluster(Executor):
    """Each task is a process of its own, on any machine that sees the same folders.

    Attributes:
        cpus: processor cores for each task, and its threads.
        gpus: accelerators for each task; one if this machine has any and they are not refused with
            ``--device cpu``, else none.
    """

    elsewhere: ClassVar[bool] = True

    cpus: Count = 1
    gpus: Annotated[int, Field(ge=0)] | None = None

    @abstractmethod
    def connected(self, folder: Path, gpus: int) -> contextlib.AbstractContextManager[Submit]:
        """The way to send commands, for as long as the block lasts.

        Args:
            folder: for files of the executor's own.
            gpus: accelerators for each task.

        Raises:
            UserError: the cluster or its Python package is not there.
        """

    def execute(self, work: Work, artefacts: Artefacts) -> None:
        """Send each task when what it needs is stored; see :class:`Scheduler`.

        Task files and logs are in a folder of ``results/jobs``; it is removed unless a task failed.
        """
        runs = artefacts.paths.jobs.resolve()
        runs.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=runs, prefix=time.strftime("%Y%m%d-%H%M%S-")))
        with self.connected(folder, self._gpus(artefacts)) as submit:
            Scheduler(
                work, artefacts, lambda task: submit(self._command(task, artefacts, folder)), folder
            ).run()
        shutil.rmtree(folder, ignore_errors=True)

    def _gpus(self, artefacts: Artefacts) -> int:
        if self.gpus is not None:
            return self.gpus
        wanted = artefacts.device_name.partition(":")[0]
        return int(wanted == "cuda" or (wanted == "auto" and has_accelerator()))

    def _command(self, task: AnyTask, artefacts: Artefacts, folder: Path) -> list[str]:
        """The shell command that does a task; what it prints goes to the task's log."""
        file = folder / f"{task.key}.json"
        TaskFile.of(task, artefacts).write(file)
        logged = 'exec "$@" >> "$0" 2>&1'
        worker = [sys.executable, "-u", "-m", "robustbench_pcl.pipeline.worker", str(file)]
        threads = f"OMP_NUM_THREADS={self.cpus}"
        return ["sh", "-c", logged, str(file.with_suffix(".log")), "env", threads, *worker]


EXECUTORS: Family[type[Executor]] = Family(
    "executor",
    {
        "local": "robustbench_pcl.pipeline.executors:Local",
        "slurm": "robustbench_pcl.pipeline.executors.slurm:Slurm",
        "ray": "robustbench_pcl.pipeline.executors.ray:Ray",
    },
)
