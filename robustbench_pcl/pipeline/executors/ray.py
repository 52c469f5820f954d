"""Ray: a task of ours is one of Ray's that starts the same process as elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.pipeline.executors import Cluster
from robustbench_pcl.pipeline.scheduler import Submission, Submit

if TYPE_CHECKING:
    import ray
else:
    ray = LazyModule("ray")

CANCEL_SECONDS = 5.0
STEP_SECONDS = 0.2


class Ray(Cluster):
    """Ray tasks, on a cluster that runs already or else on one that is started here.

    Attributes:
        address: of the cluster; if None, ``RAY_ADDRESS``, then the one on this machine, then a
            new one for as long as the command runs.
    """

    name: ClassVar[str] = "ray"

    address: str | None = None

    @contextlib.contextmanager
    def connected(self, folder: Path, gpus: int) -> Iterator[Submit]:  # noqa: ARG002
        """Send commands as tasks.

        Raises:
            UserError: Ray is not there, or no cluster answers at the address.
        """
        settings = {key: value for key, value in os.environ.items() if key.startswith("PCLBENCH_")}
        try:
            ray.init(
                address=self.address,
                runtime_env={"env_vars": settings},
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except ImportError as error:
            raise UserError(
                "The ray executor needs the package ray.", "pip install 'pclbench[ray]'"
            ) from error
        except ConnectionError as error:
            raise UserError(
                f"No Ray cluster answers at {self.address or os.environ.get('RAY_ADDRESS')}.",
                "Start one with ray start --head, or leave the address out.",
            ) from error
        task = ray.remote(num_cpus=self.cpus, num_gpus=gpus, max_retries=0)(_run)

        def submit(command: list[str]) -> Submission:
            return _RayTask(task.remote(command))

        try:
            yield submit
        finally:
            ray.shutdown()

    def stop(self, identity: str) -> None:
        """Nothing is left to do: Ray stops the tasks of a process that is gone."""


@dataclass
class _RayTask:
    """A task that Ray took."""

    reference: Any

    @property
    def identity(self) -> str:
        """The id of Ray's task."""
        return str(self.reference.task_id().hex())

    def over(self) -> bool:
        """Whether it returned, raised, or was lost with its node."""
        return self._ready(0)

    def cancel(self) -> None:
        """Interrupt it, and wait until it has stopped its process."""
        ray.cancel(self.reference)
        self._ready(CANCEL_SECONDS)

    def _ready(self, seconds: float) -> bool:
        return bool(ray.wait([self.reference], timeout=seconds)[0])


def _run(command: list[str]) -> None:
    """What a task does; cancelling it stops the process."""
    with subprocess.Popen(command) as process:
        try:
            while process.poll() is None:
                time.sleep(STEP_SECONDS)  # an interrupt would not get through a longer wait
        finally:
            process.kill()
