"""``pclbench jobs``: what runs where and since when, what it printed, and how to stop it."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_pcl.cli.choices import Format
from robustbench_pcl.cli.options import FormatOption, Home
from robustbench_pcl.cli.output import print_document, print_rows, say
from robustbench_pcl.errors import UserError, visible

if TYPE_CHECKING:
    from robustbench_pcl.pipeline.executors import Executor
    from robustbench_pcl.pipeline.runs import Run, RunRecord, TaskState
    from robustbench_pcl.pipeline.workspace import Workspace

ANSWER_SECONDS = 15.0
"""How long a run may take to do what it is asked."""
WIDTH = 80
FEW = 3
"""So many titles are named."""
LARGEST_LOG = 2**26
"""Bytes of a log that is shown."""
RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="The beginning of a run's name, as status lists it.",
        show_default="the newest",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Status(Home):
    """List runs, and what the tasks of one are doing: the named one, or the newest.

    The newest twenty are kept: what ran where, how long, and what failed and why.
    """

    run: RunArgument = None
    form: FormatOption = Format.text

    def __call__(self) -> None:
        """Print it; for programs, one row per task of one run."""
        runs = _runs(self.home)
        if not runs and self.run is None:
            say("No run is kept here.")
            if self.form is not Format.text:
                print_document("tasks", [], self.form)
            return
        folder = _one_run(runs, self.run)
        if self.run is None and self.form is Format.text:
            print_rows([_run_row(folder, record) for folder, record in runs.items()])
        self._show(folder, runs[folder])

    def _show(self, folder: Path, record: "RunRecord") -> None:
        """Print a run's tasks; those that are done are only counted where they are many."""
        if self.form is not Format.text:
            rows = [_task_fields(folder, record, task) for task in record.tasks]
            print_document("tasks", rows, self.form)
            return
        shown = record.tasks
        done = record.of("done")
        if self.run is None and len(shown) > MANY:
            shown = [task for task in shown if task.state != "done"]
        title = f"{folder.name}: {visible(record.command) or record.executor}"
        print(fill(title, WIDTH, subsequent_indent="  "))
        if shown:
            print_rows([_task_row(folder, record, task) for task in shown])
        say(f"{len(done)} of {len(record.tasks)} steps done; {_state_of(record)}.")
        for task in record.of("failed"):
            say(fill(f"{visible(task.title)}: {visible(task.cause)}", WIDTH))


@dataclass(frozen=True, kw_only=True)
class Logs(Home):
    """Print what a task printed: one that runs, or that failed."""

    task: Annotated[
        str, typer.Argument(metavar="TASK", help="A part of its title, or its key, from status.")
    ]
    run: Annotated[
        str | None, typer.Option(help="The run.", show_default="the newest that has the task")
    ] = None

    def __call__(self) -> None:
        """Print the log with control characters made visible."""
        runs = _runs(self.home)
        chosen = reversed(runs) if self.run is None else [_one_run(runs, self.run)]
        from robustbench_pcl.store.reading import read_bounded

        for folder in chosen:
            found = _matching(runs[folder], self.task)
            logs = [log for task in found if (log := folder / f"{task.key}.log").is_file()]
            if len(logs) > 1:
                listed = "; ".join(visible(task.title) for task in found)
                raise UserError(f"{self.task!r} is in several titles: {listed}.", "Say more of it.")
            for log in logs:
                text = read_bounded(log, LARGEST_LOG, "log", within=folder)
                print(visible(text.decode(errors="replace")), end="")
                return
        cause = f"There is no log of a task called {self.task!r}."
        raise UserError(cause, "Logs are kept while a task runs, and where it failed: jobs status.")


@dataclass(frozen=True, kw_only=True)
class Cancel(Home):
    """Stop a run, or one of its tasks and what needs it. What was finished is kept."""

    what: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN_OR_TASK",
            help="The beginning of a run's name, a part of a task's title, or its key.",
            show_default="the run that is going on",
        ),
    ] = None

    def __call__(self) -> None:
        """Ask the process of the run; stop what it sent if that is gone."""
        runs = _runs(self.home)
        going = {folder: record for folder, record in runs.items() if record.ended is None}
        folder, tasks = _named(going, self.what)
        record = going[folder]
        if not _ask(folder, record, tasks):
            _stop(folder, record, tasks)


MANY = 20
"""So many tasks are shown whether they are done or not."""


def summarise(run: "Run", workspace: "Workspace", limited: str | None) -> None:
    """Say what ran where, how long, what failed and why, and what is left; a little of a little.

    Args:
        run: that is over.
        workspace: that it worked for.
        limited: how long it was to take, or None.
    """
    record = run.record
    places: dict[str, list[TaskState]] = {}
    for task in record.of("done", "failed"):
        process = f", process {task.identity}" if record.executor == "workers" else ""
        places.setdefault(f"{task.host or '?'}, {task.device or '?'}{process}", []).append(task)
    failed, left = record.of("failed"), record.of("left")
    # A failure of few tasks, before anything is done, is told by the error itself.
    told = len(record.tasks) > MANY or bool(failed and record.of("done"))
    if told or len(places) > 1:
        for place, tasks in places.items():
            longest = max(tasks, key=lambda task: task.seconds)
            took = sum(task.seconds for task in tasks)
            words = f"{place}: {len(tasks)} steps, {_spoken(took)}; the longest"
            _say(f"{words} {_spoken(longest.seconds)}, {longest.title}")
    for task in failed if told else ():
        often = f" ({task.attempt} times)" if task.attempt > 1 else ""
        _say(f"failed{often}: {task.title}: {task.cause}")
    if left and limited:
        _say(
            f"Left by --limit-time {limited}: {len(left)} of {len(record.tasks)} steps. "
            f"Continue with: {record.command}"
        )
    if told:
        home = "" if workspace.paths.root == Path() else f" --home {workspace.paths.root}"
        _say(f"Each step: pclbench jobs status {run.folder.name}{home}")


def _spoken(seconds: float) -> str:
    from robustbench_pcl.progress import spoken

    return spoken(seconds)


def _say(words: str) -> None:
    say(fill(visible(words), WIDTH, subsequent_indent="  ", break_on_hyphens=False))


def _runs(home: Path) -> "dict[Path, RunRecord]":
    """A workspace's runs by their folders, oldest first; what cannot be read is passed over."""
    from robustbench_pcl.pipeline.runs import read_run, stored_runs
    from robustbench_pcl.store.records import Paths

    found = {}
    for folder in stored_runs(Paths(home).jobs):
        try:
            found[folder] = read_run(folder)
        except UserError as error:
            say(f"Left out: {visible(error.cause)}\n  {visible(error.cure)}")
    return found


def _one_run(runs: "Mapping[Path, RunRecord]", name: str | None) -> Path:
    """The run whose name begins so, the newest if None.

    Raises:
        UserError: there is none, or there are several.
    """
    found = [folder for folder in runs if name is None or folder.name.startswith(name)]
    if name is not None and len(found) != 1:
        how_many = "No run's name begins" if not found else f"{len(found)} runs' names begin"
        raise UserError(f"{how_many} with {name!r}.", "See them: pclbench jobs status.")
    return found[-1]


def _matching(record: "RunRecord", words: str) -> "list[TaskState]":
    """The tasks with that key, else those with that in their titles."""
    same = [task for task in record.tasks if task.key == words]
    return same or [task for task in record.tasks if words.lower() in task.title.lower()]


def _named(
    going: "dict[Path, RunRecord]", name: str | None
) -> "tuple[Path, list[TaskState] | None]":
    """The run, or the tasks of a run, that a name means; None for all tasks.

    Raises:
        UserError: nothing goes on that has the name, or several runs have it.
    """
    runs = [folder for folder in going if name is None or folder.name.startswith(name)]
    if len(runs) == 1:
        return runs[0], None
    if len(runs) > 1:
        listed = " and ".join(folder.name for folder in runs)
        raise UserError(f"Several runs go on: {listed}.", "Name one: pclbench jobs cancel RUN.")
    for folder, record in going.items():
        if name is not None and (found := _matching(record, name)):
            return folder, found
    raise UserError(
        f"Nothing that runs is called {name!r}." if name else "Nothing runs.",
        "See what there is: pclbench jobs status.",
    )


def _executor(record: "RunRecord") -> "Executor":
    """What a run's tasks were sent by.

    Raises:
        UserError: the record says one that there is not.
    """
    from pydantic import ValidationError

    from robustbench_pcl.configuration import explained
    from robustbench_pcl.pipeline.executors import EXECUTORS

    try:
        return EXECUTORS[record.executor].model_validate(record.settings)
    except ValidationError as error:
        cure = "The record was made by another version: stop it as the cluster does."
        raise explained(error, f"executor {record.executor}", cure) from error


def _ask(folder: Path, record: "RunRecord", tasks: "Iterable[TaskState] | None") -> bool:
    """Ask the process of a run to cancel tasks, or all; whether it did, or will.

    Raises:
        UserError: it does its tasks itself, and only one of them was named.
    """
    from robustbench_pcl.pipeline.runs import EVERYTHING, read_run, request

    if record.alive is False:
        return False
    executor = _executor(record)
    if executor.in_one_process:
        if tasks is not None:
            cause = "One process does all tasks of that run, one after the other."
            raise UserError(cause, f"Cancel the run: pclbench jobs cancel {folder.name}")
        if record.alive is None:
            cause = f"That run is a process of {record.process.host}."
            raise UserError(cause, f"Stop it there: kill -INT {record.process.pid}")
        executor.stop(str(record.process.pid))
        say(f"Asked process {record.process.pid} to stop.")
        return True
    for key in [task.key for task in tasks] if tasks is not None else [EVERYTHING]:
        request(folder, key)
    end = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < end:
        now = read_run(folder)
        asked = {task.key for task in tasks} if tasks is not None else set()
        if now.ended is not None or asked & {task.key for task in now.of("cancelled")}:
            stopped = now.of("cancelled")
            more = f", and {len(stopped) - FEW} more" if len(stopped) > FEW else ""
            _say(f"Cancelled: {'; '.join(task.title for task in stopped[:FEW])}{more}.")
            return True
        if now.alive is False:
            return False
        time.sleep(0.2)
    if record.alive:
        say(f"Asked process {record.process.pid}, which has not answered yet.")
    return bool(record.alive)


def _stop(folder: Path, record: "RunRecord", tasks: "Iterable[TaskState] | None") -> None:
    """Stop what a process that is gone has sent, and keep that it is cancelled."""
    from robustbench_pcl.pipeline.runs import Run

    executor = _executor(record)
    run = Run(folder, record)
    asked = {task.key for task in tasks} if tasks is not None else None
    for task in record.of("sent", "running", "waiting"):
        if asked is None or task.key in asked:
            if task.identity and not executor.in_one_process:
                executor.stop(task.identity)
            run.note(task.key, "cancelled", cause="cancelled by pclbench jobs cancel")
    if asked is None:
        run.end()
    run.write()
    say(f"Cancelled what {folder.name} had sent; its process is gone.")


def _run_row(folder: Path, record: "RunRecord") -> dict[str, object]:
    """A run for people."""
    failed = len(record.of("failed"))
    steps = f"{len(record.of('done'))} of {len(record.tasks)}"
    words = f"{steps} steps" + (f", {failed} failed" if failed else "")
    return {"run": folder.name, "executor": record.executor, "state": _state_of(record), "": words}


def _state_of(record: "RunRecord") -> str:
    """What a run is doing, in words."""
    if record.ended is not None:
        return f"over, {_spoken(max(record.ended - record.began, 0))}"
    words = {True: "runs", False: "its process is gone", None: "on another machine"}
    return words[record.alive]


def _current(folder: Path, task: "TaskState") -> "TaskState":
    """A task as it is now; one that was sent may run by now."""
    from robustbench_pcl.pipeline.runs import read_where

    if task.state == "sent" and (where := read_where(folder / f"{task.key}.where")):
        since, host = float(where.get("began", task.since)), where.get("host", "?")
        device = where.get("device", "?")
        return replace(task, state="running", host=host, device=device, since=since)
    return task


def _task_row(folder: Path, record: "RunRecord", task: "TaskState") -> dict[str, object]:
    """A task for people."""
    task = _current(folder, task)
    going = task.state in ("sent", "running") and record.ended is None
    took = time.time() - task.since if going else task.seconds
    clock = f"{datetime.fromtimestamp(task.since).astimezone():%H:%M:%S}" if task.since else ""
    return {
        "state": task.state,
        "task": visible(task.title),
        "attempt": task.attempt or "",
        "where": visible(", ".join(filter(None, (task.host, task.device)))),
        "since": clock,
        "took": _spoken(took) if going or task.seconds else "",
    }


def _task_fields(folder: Path, record: "RunRecord", task: "TaskState") -> dict[str, object]:
    """A task for programs."""
    task = _current(folder, task)
    since = datetime.fromtimestamp(task.since, UTC).isoformat() if task.since else None
    said = {name: value if value != "" else None for name, value in vars(task).items()}
    known = {**said, "task": task.title, "since": since}
    return {"run": folder.name, "executor": record.executor, **known}
