"""Slurm, through submitit: each task is a Slurm job."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.pipeline.executors import Cluster, signal_process
from robustbench_pcl.pipeline.scheduler import Submission, Submit

if TYPE_CHECKING:
    import submitit
else:
    submitit = LazyModule("submitit")

ASK_SECONDS = 5.0
"""The queue is asked for at most this often, whatever the number of jobs."""
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "OUT_OF_MEMORY", "DEADLINE", "REVOKED"}
"""States of jobs that ended, and not because Slurm took them away."""
TAKEN_AWAY = {
    "TIMEOUT": "its time limit",
    "PREEMPTED": "pre-emption",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
}
"""States of jobs that Slurm took away, in words."""
REQUEUED = "REQUEUED"
OVER = {"", REQUEUED, *ENDED, *TAKEN_AWAY}
SETTLE_SECONDS = 30.0
"""How long Slurm may take to say what became of a job whose program ended."""
SAFE_PATH = "PYTHONSAFEPATH"
"""The variable with which Python imports nothing from the current folder."""


class Slurm(Cluster):
    """Slurm jobs, sent from a machine that has ``sbatch``.

    Attributes:
        partition: where to; the cluster's default if None.
        account: on whose account.
        qos: quality of service.
        constraint: features of the nodes.
        minutes: time limit of a task; a training that runs into it goes on in the next attempt.
        memory_gb: for each task; the cluster's default if None.
        cluster: "local" tries everything without Slurm, as processes here.
    """

    name: ClassVar[str] = "slurm"

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    minutes: Annotated[int, Field(ge=1)] = 1440
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    cluster: Literal["slurm", "local"] = "slurm"

    @contextlib.contextmanager
    def connected(self, folder: Path, gpus: int) -> Iterator[Submit]:
        """Send commands with sbatch.

        Raises:
            UserError: submitit or Slurm is not there.
        """
        executor = self._executor(folder, gpus)
        queue = Queue() if self.cluster == "slurm" else None

        def submit(command: list[str]) -> Submission:
            try:
                job = executor.submit(submitit.helpers.CommandFunction(command, verbose=False))
            except submitit.core.utils.FailedJobError as error:
                why = str(error).strip().splitlines()[-1:]
                raise UserError(
                    f"Slurm did not take a job: {''.join(why)}.",
                    "See docs/how-to/cluster.md for what --executor-option sets.",
                ) from error
            return SlurmJob(job, queue)

        with _safe_path() if self.cluster == "local" else contextlib.nullcontext():
            yield submit

    def stop(self, identity: str) -> None:
        """``scancel``."""
        if self.cluster == "local":
            signal_process(identity, signal.SIGTERM)
        else:
            subprocess.run(["scancel", identity], capture_output=True, check=False)

    def _executor(self, folder: Path, gpus: int) -> submitit.AutoExecutor:
        try:
            executor = submitit.AutoExecutor(
                folder / "slurm",
                cluster=self.cluster,
                slurm_python=f"{shlex.quote(sys.executable)} -P",
            )
        except ImportError as error:
            raise UserError(
                "The slurm executor needs the package submitit.", "pip install 'pclbench[slurm]'"
            ) from error
        except RuntimeError as error:
            raise UserError(
                "There is no Slurm on this machine.",
                "Give the command where sbatch is, or leave --executor out.",
            ) from error
        executor.update_parameters(
            name="pclbench",
            timeout_min=self.minutes,
            cpus_per_task=self.cpus,
            gpus_per_node=gpus or None,
            mem_gb=self.memory_gb,
            stderr_to_stdout=True,
            slurm_partition=self.partition,
            slurm_account=self.account,
            slurm_qos=self.qos,
            slurm_constraint=self.constraint,
            # Nothing comes of SIGCONT; by default, submitit's signal ends a task 90 s before its
            # time limit. When that is reached, Slurm sends SIGTERM first, and a task keeps its
            # state.
            slurm_additional_parameters={"signal": "CONT@1"},
        )
        return executor


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """As ``-P`` for processes that are started in the block, those that stand for Slurm."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        del os.environ[SAFE_PATH]
        if before is not None:
            os.environ[SAFE_PATH] = before


class Queue:
    """The states of the user's jobs, as ``squeue`` last listed them.

    Accounting (``sacct``), which submitit asks, is missing on small clusters. A job that ended is
    listed for some minutes.
    """

    def __init__(self) -> None:
        self._asked = 0.0
        self._listed: dict[str, str] = {}

    def state(self, identity: str, since: float, *, ask: bool = False) -> str:
        """The state of a job that was sent at a time: one of Slurm's, or :data:`REQUEUED`.

        "PENDING" while it is not known, and "" when it is listed no longer. With ``ask`` Slurm is
        asked now.
        """
        if ask or time.monotonic() - self._asked > ASK_SECONDS:
            self._ask()
        return "PENDING" if since >= self._asked else self._listed.get(identity, "")

    def _ask(self) -> None:
        columns = "--Format=JobID:20,State:20,RestartCnt:20"
        command = ["squeue", "--me", "--states=all", "--noheader", columns]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:  # Slurm does not answer just now
            return
        self._listed, self._asked = {}, time.monotonic()
        for identity, state, restarts in map(str.split, answer.stdout.splitlines()):
            again = restarts != "0" and state == "PENDING"
            self._listed[identity] = REQUEUED if again else state


@dataclass
class SlurmJob:
    """A job that sbatch took; without a queue, one of submitit's local ones."""

    job: submitit.Job[str]
    queue: Queue | None
    sent: float = field(default_factory=time.monotonic)

    @property
    def identity(self) -> str:
        """The job's id."""
        return self.job.job_id

    def over(self) -> bool:
        """Whether its result is there, or it ended without one.

        A job that Slurm put back into the queue is over, too: there it waits for two minutes at
        least, and one that is sent anew does not.
        """
        if self.queue is None:
            return self.job.done()
        return self.job.paths.result_pickle.exists() or self._state() in OVER

    def taken_away(self) -> str | None:
        """What Slurm says why it ended the job, if Slurm did."""
        if self.queue is None:
            return None
        end = time.monotonic() + SETTLE_SECONDS
        while (state := self._state(ask=True)) not in OVER and time.monotonic() < end:
            time.sleep(1)  # a program ends before its job is requeued or out of time
        return "requeued by Slurm" if state == REQUEUED else TAKEN_AWAY.get(state)

    def cancel(self) -> None:
        """``scancel``."""
        self.job.cancel(check=False)

    def _state(self, *, ask: bool = False) -> str:
        return self.queue.state(self.job.job_id, self.sent, ask=ask) if self.queue else ""
