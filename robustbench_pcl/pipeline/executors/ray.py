"""Ray: a task of ours is one of Ray's that starts the same process as elsewhere."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
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

ANSWER_SECONDS = 10.0
CANCEL_SECONDS = 10.0
STOP_SECONDS = 5.0
"""How long a process may take to keep what it did, before it is killed."""
STEP_SECONDS = 0.2
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_BACKEND_LOG_LEVEL": "error",
}
"""Ray tells nobody what is done, sends the current folder nowhere, and says only what matters."""
PASSED_ON = ("PCLBENCH_", "PYTHONPATH")
"""Variables of the environment whose names begin so hold in the tasks, too."""
OF_PATHS = ("PYTHONPATH", "PCLBENCH_CACHE", "PCLBENCH_DATA")


class Ray(Cluster):
    """Ray tasks, on a cluster that runs already or else on one that is started here.

    Attributes:
        address: of the cluster; if None, ``RAY_ADDRESS``, then the one on this machine, then a
            new one for as long as the command runs; "local" is always a new one.
    """

    name: ClassVar[str] = "ray"

    address: str | None = None

    @contextlib.contextmanager
    def connected(self, folder: Path, gpus: int) -> Iterator[Submit]:
        """Send commands as tasks.

        Raises:
            UserError: Ray is not there, or no cluster answers at the address.
        """
        environment = _environment()
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        address = self.address or os.environ.get("RAY_ADDRESS") or _last_started()
        try:
            if _silent(address):  # Ray itself would wait for it for minutes
                raise ConnectionError
            # Ray's processes import from the folder where it is initialised.
            with contextlib.chdir(folder):
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except ImportError as error:
            raise UserError(
                "The ray executor needs the package ray.", "pip install 'pclbench[ray]'"
            ) from error
        except ConnectionError as error:
            raise UserError(
                f"No Ray cluster answers at {address}.",
                "Start one with ray start --head, or leave the address out.",
            ) from error

        def run(command: list[str]) -> None:
            """What a task does; cancelling it stops the process.

            A function within a function is sent whole: Ray's processes need no pclbench.
            """
            with subprocess.Popen(command, cwd=folder, env=os.environ | environment) as process:
                try:
                    while process.poll() is None:
                        time.sleep(STEP_SECONDS)  # an interrupt would not get through a longer wait
                finally:
                    process.terminate()
                    try:
                        process.wait(STOP_SECONDS)
                    except subprocess.TimeoutExpired:
                        process.kill()

        task = ray.remote(num_cpus=self.cpus, num_gpus=gpus, max_retries=0)(run)

        def submit(command: list[str]) -> Submission:
            return _RayTask(task.remote(command))

        # What Ray says of nodes that die must not stand in the results.
        with (folder / "ray.log").open("w") as log, contextlib.redirect_stdout(log):
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

    def taken_away(self) -> str | None:
        """Whether it was lost with its node or with Ray's own process there."""
        try:
            ray.get(self.reference, timeout=0)
        except (ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError):
            return "its node failed"
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.LocalRayletDiedError):
            return "Ray's process on its node died"
        except ray.exceptions.RayError:
            return None
        return None

    def cancel(self) -> None:
        """Interrupt it, and wait until it has stopped its process."""
        ray.cancel(self.reference)
        self._ready(CANCEL_SECONDS)

    def _ready(self, seconds: float) -> bool:
        return bool(ray.wait([self.reference], timeout=seconds)[0])


def _last_started() -> str:
    """The address of the cluster that was started last on this machine; "local" if it is gone."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    address = ""
    with contextlib.suppress(OSError):
        address = (Path(folder) / "ray/ray_current_cluster").read_text(encoding="utf-8").strip()
    return "local" if not address or _silent(address) else address


def _silent(address: str) -> bool:
    """Whether that is a machine's port where nobody answers."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in address or not port.isdecimal():
        return False
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError):
        return True
    return False


def _environment() -> dict[str, str]:
    """The variables that are passed on; relative paths in them are from here, and no empty one."""
    passed = {key: value for key, value in os.environ.items() if key.startswith(PASSED_ON)}
    for key in OF_PATHS:
        paths = [path for path in passed.get(key, "").split(os.pathsep) if path]
        if paths:
            passed[key] = os.pathsep.join(str(Path(path).resolve()) for path in paths)
    return passed
