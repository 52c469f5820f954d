"""What is to be done for some tasks: how long it takes, and how much room."""

import heapq
import shutil
from collections import Counter
from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from robustbench_pcl.cli.choices import Format
from robustbench_pcl.cli.output import print_document, print_plan, say
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.pipeline.artefacts import AnyTask
    from robustbench_pcl.pipeline.estimate import Estimator
    from robustbench_pcl.pipeline.executors import Executor
    from robustbench_pcl.pipeline.workspace import Workspace

UNKNOWN = 1.0
"""Seconds that stand in a bar for a task of which nothing is known."""
TIGHT = 0.8
"""More than this share of the free disk is worth a warning."""
WIDTH = 80
FEW = 3
"""So many tasks are not worth an announcement, unless a model is trained."""


def announced(
    lacking: "Sequence[AnyTask]",
    tasks: "Sequence[AnyTask]",
    workspace: "Workspace",
    executor: "Executor",
    where: str,
) -> "list[tuple[AnyTask, float]]":
    """What is to be done, each task with about how many seconds it takes, having said so.

    Args:
        lacking: what is to be done.
        tasks: what is wanted.
        workspace: where artefacts are found and made.
        executor: what does it.
        where: the words for this machine's device, or "" if tasks are sent elsewhere.

    Raises:
        UserError: what comes of it does not fit on the disk.
    """
    from robustbench_pcl.pipeline.estimate import Estimator
    from robustbench_pcl.pipeline.planner import elapsed, plan
    from robustbench_pcl.pipeline.tasks import Train
    from robustbench_pcl.progress import PATIENCE_SECONDS, counted, spoken

    workers = getattr(executor, "workers", 1)
    estimator = Estimator(workspace)
    room = _room(lacking, workspace, estimator, workers)
    if len(lacking) <= FEW and where and not any(isinstance(task, Train) for task in lacking):
        return [(task, UNKNOWN) for task in lacking]
    seconds = [estimator.seconds(task) for task in lacking]
    work = [(task, each or UNKNOWN) for task, each in zip(lacking, seconds, strict=True)]
    known = [(task, each) for task, each in zip(lacking, seconds, strict=True) if each]
    unknown = len(lacking) - len(known)
    took = elapsed(known, workers) if known else 0.0
    if not where or unknown or took > PATIENCE_SECONDS:
        kinds = Counter(task.kind for task in lacking)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        on = f" with {workers} workers{where}" if workers > 1 else where
        about = f"about {spoken(took)}{on}" if known else f"of unknown length{on}"
        rest = f", plus {counted(unknown, 'task')} of unknown length" if known and unknown else ""
        every = len(plan(tasks)) + kinds["craft"]
        todo = f"{len(lacking)} of {counted(every, 'task')} to {'do' if where else 'send'}"
        words = f"{todo} ({counts}), {about}{rest}, {room}."
        say(fill(f"{words} Ctrl-C stops it; the same command continues.", WIDTH))
    return work


def _room(
    lacking: "Sequence[AnyTask]", workspace: "Workspace", estimator: "Estimator", workers: int
) -> str:
    """About how much disk tasks take, and how much is free, in words.

    Raises:
        UserError: they take more.
    """
    from robustbench_pcl.progress import sized

    folder = workspace.paths.root.resolve()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    kept = sum(map(estimator.bytes, lacking))
    besides = sum(heapq.nlargest(workers or 1, map(estimator.working_bytes, lacking)))
    words = f"{sized(kept)} of {sized(free)} free"
    if kept + besides > free:
        raise UserError(
            f"About {sized(kept + besides)} are needed in {folder}, and {sized(free)} are free.",
            "Make room there, name another folder with --home DIR, or do less: --only, --images.",
        )
    if kept + besides > TIGHT * free:
        say(fill(f"The disk will be nearly full: {sized(kept + besides)} of {words}.", WIDTH))
    return words


def show_plan(tasks: "Sequence[AnyTask]", workspace: "Workspace", form: Format) -> None:
    """Print every task behind some, and which of them are done."""
    from robustbench_pcl.pipeline.estimate import Estimator
    from robustbench_pcl.pipeline.planner import survey
    from robustbench_pcl.progress import counted, spoken

    estimator = Estimator(workspace)
    rows: list[dict[str, object]] = []
    lacking: list[AnyTask] = []
    for task, is_stored in survey(tasks, workspace):
        seconds = 0.0 if is_stored else estimator.seconds(task)
        size = 0.0 if is_stored else estimator.bytes(task)
        if not is_stored:
            lacking.append(task)
        about = {"task": task.title, "kind": task.kind, "dataset": task.dataset}
        state = "done" if is_stored else "missing"
        rows.append({**about, "state": state, "seconds": seconds, "bytes": round(size)})
    if form is Format.text:
        print_plan(rows)
    else:
        print_document("plan", rows, form)
    known = [row["seconds"] for row in rows if isinstance(row["seconds"], float)]
    unknown = len(rows) - len(known)
    rest = f", plus {counted(unknown, 'task')} of unknown length" if unknown else ""
    room = f", {_room(lacking, workspace, estimator, 1)}" if lacking else ""
    total = f"{counted(len(rows), 'task')}, {len(lacking)} to do"
    say(f"{total}: about {spoken(sum(known))}{rest}{room}.")
