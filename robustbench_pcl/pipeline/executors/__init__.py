"""Where tasks run: in this process, in several on this machine, as Slurm jobs, as Ray tasks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from robustbench_pcl.configuration import Count, Description
from robustbench_pcl.environment import has_accelerator
from robustbench_pcl.errors import UserError, in_one_line
from robustbench_pcl.pipeline.artefacts import AnyTask, Artefacts
from robustbench_pcl.pipeline.runs import USUAL, Run, Terms
from robustbench_pcl.pipeline.scheduler import Scheduler, Submission, Submit
from robustbench_pcl.pipeline.worker import TaskFile
from robustbench_pcl.registry import Family

Work = Sequence[tuple[AnyTask, float]]
"""Tasks in an order that works, each with its share of the whole: about how many seconds."""


class Executor(Description, ABC):
    """A way to run tasks; its fields are what ``--executor-option`` sets.

    Attributes:
        name: in ``EXECUTORS``.
        elsewhere: whether tasks run on other machines.
        in_one_process: whether the process that is told to do them does them itself.
    """

    name: ClassVar[str]
    elsewhere: ClassVar[bool] = False
    in_one_process: ClassVar[bool] = False

    def execute(self, work: Work, artefacts: Artefacts, terms: Terms = USUAL) -> Run:
        """Run tasks until all their artefacts are stored.

        Args:
            work: in an order that works.
            artefacts: where they are found and made.
            terms: until when, and whether a failure stops it.

        Returns:
            What ran where, what was left for another time and, where that stops nothing, what
            failed.

        Raises:
            UserError: a task cannot be done, or was cancelled.
        """
        tasks, runs = [task for task, _ in work], artefacts.paths.jobs.resolve()
        run = Run.begin(runs, tasks, self.name, self.content(), terms.command)
        try:
            self.perform(work, artefacts, run, terms)
        except Exception:
            terms.ended(run.end())
            raise
        except BaseException:  # Ctrl-C: two lines say all there is to say
            run.end()
            raise
        terms.ended(run.end())
        failure = run.failure()
        if failure and not terms.keep_going:
            raise failure
        return run

    @abstractmethod
    def perform(self, work: Work, artefacts: Artefacts, run: Run, terms: Terms) -> None:
        """Do the work of a run; what fails is noted in it."""

    @abstractmethod
    def stop(self, identity: str) -> None:
        """Stop what was sent, by what it is called, when the process that sent it is gone."""


class Local(Executor):
    """One task after the other, in this process."""

    name: ClassVar[str] = "local"
    in_one_process: ClassVar[bool] = True

    def perform(self, work: Work, artefacts: Artefacts, run: Run, terms: Terms) -> None:
        """Make each artefact in turn; one that is there by now is passed over.

        With ``keep_going`` what was raised is kept in the task's log, and what needs it left out.
        """
        total, lacking = sum(seconds for _, seconds in work), set[str]()
        with artefacts.progress.task(f"{len(work)} step{'s' * (len(work) > 1)}", total) as advance:
            for done, (task, seconds) in enumerate(work, start=1):
                ready = not lacking & {need.key for need in task.needs} and terms.fit(seconds)
                if not ready or not self._make(task, artefacts, run, terms):
                    lacking.add(task.key)
                advance(seconds, f"{done} done")

    def stop(self, identity: str) -> None:
        """Interrupt the process, as Ctrl-C does: what it does is not sent, but done by itself."""
        signal_process(identity, signal.SIGINT)

    def _make(self, task: AnyTask, artefacts: Artefacts, run: Run, terms: Terms) -> bool:
        """Make one artefact; whether it is there."""
        here = {"identity": str(os.getpid()), "host": socket.gethostname()}
        run.note(task.key, "running", attempt=1, device=artefacts.device_name, **here)
        try:
            artefacts.make(task)
        except Exception as error:
            why = str(error) if isinstance(error, UserError) else in_one_line(error)
            run.note(task.key, "failed", cause=" ".join(why.split()))
            run.file(task.key, ".log").write_text(traceback.format_exc(), encoding="utf-8")
            if not terms.keep_going:
                raise
            return False
        run.note(task.key, "done")
        return True


def signal_process(identity: str, number: signal.Signals) -> None:
    """Send a signal to a process of this machine; one that is gone is left alone."""
    if int(identity) > 1:  # 0, 1 and -1 would be many processes
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(identity), number)


class Cluster(Executor):
    """Each task is done by a process of its own, on any machine that sees the same folders.

    Attributes:
        cpus: processor cores for each task, and its threads.
        gpus: accelerators for each task; one if this machine has any and they are not refused with
            ``--device cpu``, else none.
        workers: how many tasks are sent at a time; 0 for no limit.
        here: whether the processes are on this machine.
    """

    elsewhere: ClassVar[bool] = True
    here: ClassVar[bool] = False

    cpus: Count = 1
    gpus: Annotated[int, Field(ge=0)] | None = None
    workers: Annotated[int, Field(ge=0)] = 0

    @abstractmethod
    def connected(self, folder: Path, gpus: int) -> contextlib.AbstractContextManager[Submit]:
        """The way to send commands, for as long as the block lasts.

        Args:
            folder: for files of the executor's own.
            gpus: accelerators for each task.

        Raises:
            UserError: the cluster or its Python package is not there.
        """

    def perform(self, work: Work, artefacts: Artefacts, run: Run, terms: Terms) -> None:
        """Send each task when what it needs is stored; see :class:`Scheduler`.

        What does not need a task that failed is finished in any case.
        """
        with self.connected(run.folder, self._gpus(artefacts)) as submit:

            def send(task: AnyTask) -> Submission:
                file = run.file(task.key, ".json")
                TaskFile.of(task, artefacts).write(file)
                return submit(self._command(file))

            most, until = self.workers, terms.until
            Scheduler(work, artefacts, send, run, most=most, here=self.here, until=until).run()

    def _gpus(self, artefacts: Artefacts) -> int:
        if self.gpus is not None:
            return self.gpus
        wanted = artefacts.device_name.partition(":")[0]
        return int(wanted == "cuda" or (wanted == "auto" and has_accelerator()))

    def _command(self, file: Path) -> list[str]:
        """The shell command that does a task; what it prints goes to the task's log."""
        logged = 'exec "$@" >> "$0" 2>&1'
        threads = f"OMP_NUM_THREADS={self.cpus}"
        worker = [*WORKER, str(file)]
        return ["sh", "-c", logged, str(file.with_suffix(".log")), "env", threads, *worker]


WORKER = (sys.executable, "-P", "-u", "-m", "robustbench_pcl.pipeline.worker")
"""The command that does the task in a file, or one task after another.

``-P``: nothing is imported from the folder where the command was typed, where a ``torch.py`` or a
``json.py`` may lie.
"""
EXECUTORS: Family[type[Executor]] = Family(
    "executor",
    {
        "local": "robustbench_pcl.pipeline.executors:Local",
        "workers": "robustbench_pcl.pipeline.executors.workers:Workers",
        "slurm": "robustbench_pcl.pipeline.executors.slurm:Slurm",
        "ray": "robustbench_pcl.pipeline.executors.ray:Ray",
    },
)
