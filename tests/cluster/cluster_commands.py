"""``pclbench run`` in a process of its own, what may be done to it, and what it leaves."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PCLBENCH = [sys.executable, "-P", "-m", "robustbench_pcl"]
PATIENCE_SECONDS = 300.0
PACKAGES = {
    "sbatch": "slurm-wlm",
    "munged": "munge",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server",
}


def without_slurm() -> str:
    """What is lacking to start a Slurm here, or ""."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = [package for tool, package in PACKAGES.items() if not shutil.which(tool, path=path)]
    if os.geteuid():
        return "only root can start a Slurm"
    if lacking:
        return f"apt-get install --no-install-recommends {' '.join(lacking)}"
    return "" if importlib.util.find_spec("submitit") else "pip install 'pclbench[slurm]'"


def without_ray() -> str:
    """What is lacking to start a Ray here, or ""."""
    return "" if importlib.util.find_spec("ray") else "pip install 'pclbench[ray]'"


def until(there: Callable[[], Any], what: str) -> Any:
    """What ``there`` gives as soon as it is true."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := there()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.1)
    return found


class Command:
    """``pclbench run`` on the suite, in a process of its own.

    Args:
        folder: where it is typed.
        home: its workspace.
        words: more options.
    """

    def __init__(self, folder: Path, home: Path, *words: str) -> None:
        self.home, self.errors = home, home.with_suffix(".err")
        run = ["run", "--suite", "suite.toml", "--home", str(home), "--device", "cpu"]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*PCLBENCH, *run, *words],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def said(self) -> str:
        return self.errors.read_text()

    def results(self) -> dict[str, str]:
        """The tables that it prints in the end, and what their numbers rest on."""
        tables, _ = self.process.communicate(timeout=PATIENCE_SECONDS)
        assert self.process.returncode == 0, self.said()
        return {"tables": tables, **evidence(self.home)}

    def tasks(self) -> list[dict[str, Any]]:
        """Its tasks, as its record says."""
        runs = sorted(self.home.glob("results/jobs/*/run.json"))
        return json.loads(runs[-1].read_text())["tasks"] if runs else []

    def hears(self, words: str) -> None:
        """Wait until it says something on a line of its own."""

        def heard() -> bool:
            assert self.process.poll() is None, self.said()
            return words in self.said()

        until(heard, words)

    def running(self, title: str, since: float = 0.0) -> dict[str, Any]:
        """A task whose process began after a time, as its record says: an ``identity`` is in it."""

        def began() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.said()
            for task in self.tasks():
                if task["title"] == title and task["state"] == "sent":
                    with contextlib.suppress(OSError, ValueError):
                        (where,) = self.home.glob(f"results/jobs/*/{task['key']}.where")
                        if json.loads(where.read_bytes())["began"] > since:
                            return task
            return None

        return until(began, f"{title} runs")

    def workers(self, key: str) -> list[int]:
        """The processes that do a task."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_text().split("\0")
                ours = any(
                    str(self.home) in word and word.endswith(f"{key}.json") for word in words
                )
                if ours and "-P" in words[:3]:
                    found.append(int(process.name))
        return found

    def kill_workers(self, key: str) -> None:
        """Kill the processes that do a task: two, where a node that died left one behind."""
        workers = self.workers(key)
        assert workers
        for worker in workers:
            os.kill(worker, signal.SIGKILL)


def jobs(run: Command, *words: str) -> str:
    """What ``pclbench jobs`` prints about a command."""
    asked = [*PCLBENCH, "jobs", *words, "--home", str(run.home)]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode == 0, told.stderr
    return told.stdout + told.stderr


def evidence(home: Path) -> dict[str, str]:
    """What the numbers of a workspace rest on: digests of weights, of images, and accuracies."""
    from robustbench_pcl.store.adversarial_sets import open_set

    found = {}
    for path in home.glob("checkpoints/*.safetensors"):
        found[path.name] = path.read_bytes().hex()
    for path in home.glob("results/adversarial_sets/*.h5"):
        found[path.name] = open_set(path).summary.images_digest
    for path in home.glob("results/measurements/*.json"):
        record = json.loads(path.read_bytes())
        found[path.name] = f"{record['correct']} of {record['n']}"
    return found


def left_over(home: Path) -> list[str]:
    """Files that nobody needs: temporary ones, claims, states of trainings."""
    hidden = [path for path in home.rglob(".*") if path.is_file()]
    partial = [path for path in home.glob("checkpoints/partial/*") if path.is_file()]
    return [str(path) for path in (*hidden, *partial, *home.glob("results/claims/*"))]
