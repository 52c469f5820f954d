"""A run of tasks as its folder tells it: what ran where, how long, and what failed and why.

``results/jobs/<run>/run.json`` is written while tasks run and stays when they are done.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from robustbench_pcl.configuration import explained
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline.artefacts import AnyTask
from robustbench_pcl.progress import counted
from robustbench_pcl.store.atomic import STALE_SECONDS, write_bytes
from robustbench_pcl.store.claims import Process
from robustbench_pcl.store.reading import parse_json, read_bounded

State = Literal["waiting", "sent", "running", "done", "failed", "cancelled", "left"]
FILE, REQUEST = "run.json", "cancel.json"
EVERYTHING = "*"
"""What a request names that is about the whole run."""
KEPT = 20
"""Runs whose folders are kept; older ones are removed when a new one begins."""
HERE = ("local", "workers")
"""Executors whose tasks end with the process that sends them."""
LARGEST = 64 * 2**20
"""Bytes of a record: of 100,000 tasks."""
WRITE_SECONDS = 1.0
"""The file is at most this old while tasks change, or some times what writing it takes."""
WRITE_SHARE = 20


@dataclass(frozen=True)
class Terms:
    """On what terms tasks are done.

    Attributes:
        command: what was typed, or "".
        keep_going: whether what does not need a task that failed is done, too.
        until: by the monotonic clock; nothing is begun that would take longer.
        ended: is called when all is over, unless Ctrl-C ended it.
    """

    command: str = ""
    keep_going: bool = False
    until: float = math.inf
    ended: Callable[[Run], None] = lambda _: None

    def fit(self, seconds: float) -> bool:
        """Whether a task of so many seconds would end in time."""
        return time.monotonic() + seconds <= self.until


USUAL = Terms()
"""All of it, unless something fails."""


@dataclass
class TaskState:
    """What is known of a task.

    Attributes:
        key: the task's.
        title: the task's.
        state: "waiting" for what it needs, "sent", "running", "done", "failed" for good,
            "cancelled", or "left" for another time.
        attempt: how often it was sent, but for its losses.
        losses: how often the cluster took it away, or did not take it.
        identity: what the executor calls it: a process, a Slurm job, a Ray task.
        host: the machine that it ran on; "" while that is not known.
        device: what computed it.
        since: when it came into this state, in seconds since 1970.
        seconds: that its last attempt took.
        cause: why it failed, in one line.
    """

    key: Annotated[str, Field(pattern=r"^[\w -]+$")]  # files are called after it
    title: str
    state: State = "waiting"
    attempt: int = 0
    losses: int = 0
    identity: Annotated[str, Field(pattern=r"^\w*$")] = ""  # commands are given it
    host: str = ""
    device: str = ""
    since: float = 0.0
    seconds: float = 0.0
    cause: str = ""


@dataclass
class RunRecord:
    """What is known of a run.

    Attributes:
        executor: name of it.
        settings: its options.
        command: what was typed, or "".
        process: that sends the tasks.
        began: in seconds since 1970.
        ended: the same; None while it runs, and where its process was killed.
        tasks: in the order of the plan.
    """

    executor: str
    settings: dict[str, Any]
    command: str
    process: Process
    began: float
    ended: float | None = None
    tasks: list[TaskState] = field(default_factory=list)

    @property
    def alive(self) -> bool | None:
        """Whether its process runs; None if it is another machine's."""
        if self.ended is not None or self.process.dead:
            return False
        return True if self.process.machine == Process.own().machine else None

    def of(self, *states: State) -> list[TaskState]:
        """The tasks in some states."""
        return [task for task in self.tasks if task.state in states]


class Run:
    """A run's folder: the record in it, task files and logs.

    Args:
        folder: of the run.
        record: of the run.
    """

    def __init__(self, folder: Path, record: RunRecord) -> None:
        self.folder = folder
        self.record = record
        self._tasks = {task.key: task for task in record.tasks}
        self._changed, self._due = True, 0.0
        self.write()

    @classmethod
    def begin(
        cls,
        runs: Path,
        tasks: Sequence[AnyTask],
        executor: str,
        settings: Mapping[str, Any],
        command: str = "",
    ) -> Run:
        """A new folder in ``runs``; the oldest are removed.

        Raises:
            UserError: it cannot be written.
        """
        runs.mkdir(parents=True, exist_ok=True)
        _remove_old(runs)
        folder = Path(tempfile.mkdtemp(dir=runs, prefix=time.strftime("%Y%m%d-%H%M%S-")))
        record = RunRecord(
            executor=executor,
            settings=dict(settings),
            command=command,
            process=Process.own(),
            began=time.time(),
            tasks=[TaskState(task.key, task.title, since=time.time()) for task in tasks],
        )
        return cls(folder, record)

    def file(self, key: str, suffix: str) -> Path:
        """A file of a task: its ".json", ".log", ".where" or ".ended"."""
        return self.folder / f"{key}{suffix}"

    def note(self, key: str, state: State, **known: Any) -> None:
        """Keep that a task is in another state, and what else became known of it."""
        task, now = self._tasks[key], time.time()
        if state in ("done", "failed"):
            where = read_where(self.file(key, ".where"))
            since = task.since if task.state in ("sent", "running") else now
            task.seconds = now - where.get("began", since)
            task.host = where.get("host", task.host)
            task.device = where.get("device", task.device)
        task.state, task.since = state, now
        vars(task).update(known)
        self._changed = True
        self.write_if_due()

    def write_if_due(self) -> None:
        """Write the record unless nothing changed, or it was written a moment ago."""
        if self._changed and time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Write the record."""
        start = time.monotonic()
        content = {
            **vars(self.record),
            "process": vars(self.record.process),
            "tasks": [vars(task) for task in self.record.tasks],
        }
        write_bytes(self.folder / FILE, json.dumps(content, indent=1).encode())
        end = time.monotonic()
        self._changed, self._due = False, end + max(WRITE_SECONDS, WRITE_SHARE * (end - start))

    def requests(self) -> set[str]:
        """The keys of tasks that are to be cancelled, :data:`EVERYTHING` for the whole run."""
        return read_requests(self.folder)

    def failure(self) -> UserError | None:
        """What failed or was cancelled, and why; None if nothing was."""
        failed, cancelled = self.record.of("failed"), self.record.of("cancelled")
        rest = self.record.of("waiting", "left")
        waiting = f", and {counted(len(rest), 'task')} could not begin" if rest else ""
        if failed:
            first = failed[0]
            often = f" {first.attempt} times" if first.attempt > 1 else ""
            return UserError(
                f"{counted(len(failed), 'task')} failed{often}{waiting}. "
                f"{first.title}: {first.cause}",
                f"The logs are in {self.folder}; type the same command to continue.",
            )
        if cancelled:
            return UserError(
                f"{counted(len(cancelled), 'task')} cancelled{waiting}.",
                "What was finished is kept. Type the same command to continue.",
            )
        return None

    def end(self) -> Run:
        """Keep the record, and of what failed its file and log; nothing else stays."""
        self.record.ended = time.time()
        for task in self.record.of("waiting", "sent", "running"):
            task.state, task.since = "left", self.record.ended
        self.write()
        _tidy(self.folder, self.record)
        return self


def read_run(folder: Path) -> RunRecord:
    """The record in a run's folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = folder / FILE
    what, cure = (
        f"{path} is not a run",
        f"It only says what ran, and may be removed: rm -r {folder}",
    )
    content = parse_json(read_bounded(path, LARGEST, "run", folder), what, cure)
    try:
        return TypeAdapter(RunRecord).validate_python(content)
    except ValidationError as error:
        raise explained(error, what, cure) from error


def stored_runs(runs: Path) -> list[Path]:
    """The folders of runs, oldest first."""
    return sorted(path for path in runs.glob("[!.]*") if (path / FILE).is_file())


def read_where(path: Path) -> dict[str, Any]:
    """Where a task runs and since when, as its process wrote it; empty before it did."""
    with contextlib.suppress(UserError):
        found = parse_json(read_bounded(path, LARGEST, "place"), str(path))
        if isinstance(found, dict):
            return found
    return {}


def write_where(path: Path, device: str) -> None:
    """Say which machine does a task, on what, and since when."""
    content = {"host": socket.gethostname(), "device": device, "began": time.time()}
    write_bytes(path, json.dumps(content).encode())


def read_requests(folder: Path) -> set[str]:
    """The keys of tasks that are to be cancelled."""
    path = folder / REQUEST
    if not path.exists():
        return set()
    with contextlib.suppress(UserError):
        found = parse_json(read_bounded(path, LARGEST, "request"), str(path))
        if isinstance(found, list):
            return {key for key in found if isinstance(key, str)}
    return set()


def request(folder: Path, key: str) -> None:
    """Ask the process of a run to cancel a task, or :data:`EVERYTHING`."""
    keys = sorted({*read_requests(folder), key})
    write_bytes(folder / REQUEST, json.dumps(keys).encode())


def tidy(runs: Path) -> None:
    """Remove what runs left whose process was killed; of those on a cluster, jobs may go on."""
    for folder in stored_runs(runs):
        with contextlib.suppress(UserError, OSError):
            record = read_run(folder)
            if record.ended is None and record.alive is False and record.executor in HERE:
                _tidy(folder, record)
    for folder in runs.glob("[!.]*"):  # killed before there was a record
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > STALE_SECONDS and not any(folder.iterdir()):
                folder.rmdir()


def _tidy(folder: Path, record: RunRecord) -> None:
    """Remove all but a run's record, and of what failed its file and log."""
    failed = record.of("failed")
    kept = {f"{task.key}{suffix}" for task in failed for suffix in (".json", ".log")}
    for path in folder.iterdir():
        if path.is_dir():
            if not failed:
                shutil.rmtree(path, ignore_errors=True)
        elif path.name not in {FILE, *kept}:
            path.unlink(missing_ok=True)


def _remove_old(runs: Path) -> None:
    """Remove the folders of all but the newest runs that are over."""
    for folder in stored_runs(runs)[: -(KEPT - 1)]:
        with contextlib.suppress(UserError):
            if read_run(folder).alive is False:
                shutil.rmtree(folder, ignore_errors=True)
