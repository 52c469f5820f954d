"""Slurm, through submitit: each task is a Slurm job."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.pipeline.executors import Cluster
from robustbench_pcl.pipeline.scheduler import Submission, Submit

if TYPE_CHECKING:
    import submitit
else:
    submitit = LazyModule("submitit")

ASK_SECONDS = 5.0
"""The queue is asked for at most this often, whatever the number of jobs."""


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
                    "See docs/cluster.md for what --executor-option sets.",
                ) from error
            return _SlurmJob(job, queue)

        yield submit

    def stop(self, identity: str) -> None:
        """``scancel``."""
        subprocess.run(["scancel", identity], capture_output=True, check=False)

    def _executor(self, folder: Path, gpus: int) -> submitit.AutoExecutor:
        try:
            executor = submitit.AutoExecutor(folder / "slurm", cluster=self.cluster)
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
        )
        return executor


class Queue:
    """The ids of the user's jobs that wait or run, as ``squeue`` last listed them.

    Accounting (``sacct``), which submitit asks, is missing on small clusters.
    """

    def __init__(self) -> None:
        self._asked = 0.0
        self._ids: set[str] = set()

    def holds(self, identity: str, since: float) -> bool:
        """Whether a job that was sent at a time still waits or runs."""
        if time.monotonic() - self._asked > ASK_SECONDS:
            command = ["squeue", "--me", "--noheader", "--format=%i"]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode == 0:  # else Slurm does not answer just now
                self._ids = set(answer.stdout.split())
                self._asked = time.monotonic()
        return since >= self._asked or identity in self._ids


@dataclass
class _SlurmJob:
    """A job that sbatch took; without a queue, one of submitit's local ones."""

    job: submitit.Job[str]
    queue: Queue | None
    sent: float = field(default_factory=time.monotonic)

    @property
    def identity(self) -> str:
        """The job's id."""
        return self.job.job_id

    def over(self) -> bool:
        """Whether its result is there, or it left the queue without one."""
        if self.queue is None:
            return self.job.done()
        return self.job.paths.result_pickle.exists() or not self.queue.holds(
            self.job.job_id, self.sent
        )

    def cancel(self) -> None:
        """``scancel``."""
        self.job.cancel(check=False)
