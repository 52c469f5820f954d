"""How commands get work done: what is missing is announced, made and shown."""

import gc
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from robustbench_pcl.cli.choices import Format, executor_names, offered
from robustbench_pcl.cli.options import FormatOption, Place, read_settings
from robustbench_pcl.cli.output import print_plan, print_rows, say
from robustbench_pcl.errors import UserError, unknown_name

if TYPE_CHECKING:
    from robustbench_pcl.configuration import Mode
    from robustbench_pcl.pipeline.artefacts import AnyTask
    from robustbench_pcl.pipeline.certifying import Certify
    from robustbench_pcl.pipeline.diagnosing import Diagnose
    from robustbench_pcl.pipeline.executors import Executor
    from robustbench_pcl.pipeline.tasks import Measure
    from robustbench_pcl.pipeline.workspace import Workspace


UNKNOWN = 1.0
"""Seconds that stand in a bar for a task of which nothing is known."""
FEW = 3
"""So many tasks are not worth an announcement, unless a model is trained."""
STARTING, USUAL = 500_000, gc.get_threshold()
"""So many objects more than before make Python look for garbage, while a command starts and then:
tensors that are garbage should not wait long."""


@dataclass(frozen=True, kw_only=True)
class Tasks(Place):
    """How tasks are done, and how what comes of them is shown."""

    workers: Annotated[
        int | None,
        typer.Option(
            help="So many tasks at a time, each in a process of its own: one on each GPU, or on "
            "its share of the cores.",
            min=1,
            show_default="1, in this process",
        ),
    ] = None
    executor: Annotated[
        str,
        typer.Option(
            help="Where tasks run: local, slurm or ray.", autocompletion=offered(executor_names)
        ),
    ] = "local"
    executor_option: Annotated[
        list[str] | None,
        typer.Option(
            help="Such as partition=gpu or gpus=1 (docs/cluster.md); may be repeated.",
            show_default=False,
        ),
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = (
        False
    )
    form: FormatOption = Format.text

    def read_executor(self) -> "Executor":
        """Where the tasks run.

        Raises:
            UserError: there is no such executor or option of it, or a value is wrong for it.
        """
        from pydantic import ValidationError

        from robustbench_pcl.configuration import explained
        from robustbench_pcl.pipeline.executors import EXECUTORS

        given: dict[str, object] = {**read_settings(self.executor_option, "--executor-option")}
        name = self.executor
        if self.workers is not None:
            if "workers" in given:
                cause = "--workers and --executor-option workers say the same thing."
                raise UserError(cause, "Leave one out.")
            if name == "local" and self.workers > 1:
                name = "workers"
            if name != "local":
                given["workers"] = self.workers
        kind = EXECUTORS[name]
        for key in given:
            if key not in kind.model_fields:
                raise unknown_name(f"option of executor {name}", key, kind.model_fields)
        try:
            return kind.model_validate(given)
        except ValidationError as error:
            raise explained(error, "--executor-option", "See docs/cluster.md.") from error


@dataclass(frozen=True, kw_only=True)
class Work(Tasks):
    """The same on test images."""

    images: Annotated[
        int | None,
        typer.Option(help="Test images, the first ones.", min=1, show_default="the scale's number"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Shortcuts:
    """How adversarial images are made."""

    exact: Annotated[
        bool,
        typer.Option("--exact", help="Attack the plain model in float32, all steps: no shortcuts."),
    ] = False

    @property
    def mode(self) -> "Mode":
        """How adversarial images are made, all steps for all images."""
        return "exact" if self.exact else "fast"


def carry_out(
    tasks: "Sequence[AnyTask]", workspace: "Workspace", options: Tasks | None = None
) -> bool:
    """Do what is missing for some tasks, having said how much it is; or only show it.

    A few tasks on trained models are not announced: their own bars show the time that is left.

    Args:
        tasks: what is wanted; what these need is made first.
        workspace: where artefacts are found and made.
        options: how; None for one task after the other in this process.

    Returns:
        Whether all of them are done: not with --dry-run.

    Raises:
        UserError: the executor or an option of it is wrong, or a task failed.
    """
    from robustbench_pcl.pipeline.executors import Local
    from robustbench_pcl.pipeline.planner import missing
    from robustbench_pcl.pipeline.runs import Terms, tidy
    from robustbench_pcl.pipeline.tasks import Train
    from robustbench_pcl.store.atomic import require_writable

    executor = options.read_executor() if options else Local()
    if options and options.dry_run:
        _show_plan(tasks, workspace, options.form)
        return False
    workspace.clean()
    tidy(workspace.paths.jobs)
    lacking = missing(tasks, workspace)
    if lacking:
        where = "" if executor.elsewhere else f" on {workspace.device}"  # refused if there is none
        require_writable(workspace.paths.root)
        work = [(task, UNKNOWN) for task in lacking]
        if len(lacking) > FEW or where == "" or any(isinstance(task, Train) for task in lacking):
            work = _announced(lacking, tasks, workspace, where)
        _keep_what_is_imported()
        executor.execute(work, workspace, Terms(command=shlex.join(["pclbench", *sys.argv[1:]])))
    return True


def check_external(
    tasks: "Iterable[Measure | Diagnose | Certify]", workspace: "Workspace", options: Work
) -> None:
    """Say, before it is attacked, whether a user's own model can be judged.

    Raises:
        UserError: another model would be measured than the one that is meant.
    """
    from robustbench_pcl.recipe import ExternalModel

    models: dict[str, ExternalModel] = {}
    for task in tasks:
        external = {each.id(): each for each in task.models if isinstance(each, ExternalModel)}
        made: AnyTask = task
        if external and workspace.find(made) is None:
            models |= external
    for model in () if options.dry_run else models.values():
        say(f"{model.name}, before it is attacked:")
        for finding in workspace.inspect(model):
            if finding.useless:
                raise UserError(f"{model.name}: {finding.said}", finding.cure)
            say(fill(str(finding), 80, initial_indent="  ", subsequent_indent="    "))


def _keep_what_is_imported() -> None:
    """Look for garbage as usual from now on, but never again in what is there by now."""
    gc.freeze()
    gc.set_threshold(*USUAL)


def _announced(
    lacking: "Sequence[AnyTask]", tasks: "Sequence[AnyTask]", workspace: "Workspace", where: str
) -> "list[tuple[AnyTask, float]]":
    """What is to be done, each task with about how many seconds it takes, having said so.

    Args:
        lacking: what is to be done.
        tasks: what is wanted.
        workspace: where artefacts are found and made.
        where: the words for this machine's device, or "" if tasks are sent elsewhere.
    """
    from robustbench_pcl.pipeline.estimate import Estimator
    from robustbench_pcl.pipeline.planner import plan
    from robustbench_pcl.progress import PATIENCE_SECONDS, spoken

    estimator = Estimator(workspace)
    seconds = [estimator.seconds(task) for task in lacking]
    known = [each for each in seconds if each is not None]
    unknown = len(seconds) - len(known)
    if not where or unknown or sum(known) > PATIENCE_SECONDS:
        about = f", about {spoken(sum(known))}{where}" if known else ""
        rest = f", {unknown} of unknown length" if unknown else ""
        counts = f"{len(lacking)} of {len(plan(tasks))} tasks to {'do' if where else 'send'}"
        say(f"{counts}{about}{rest}. Ctrl-C stops; the same command goes on.")
    return [(task, each or UNKNOWN) for task, each in zip(lacking, seconds, strict=True)]


def _show_plan(tasks: "Sequence[AnyTask]", workspace: "Workspace", form: Format) -> None:
    """Print every task behind some, and which of them are done."""
    from robustbench_pcl.pipeline.estimate import Estimator
    from robustbench_pcl.pipeline.planner import plan
    from robustbench_pcl.progress import spoken

    estimator = Estimator(workspace)
    rows: list[dict[str, object]] = []
    known, unknown = [], 0
    for task in plan(tasks):
        seconds = estimator.seconds(task)
        if workspace.find(task) is not None:
            state, seconds = "done", 0.0
        elif seconds is None:
            state, unknown = "unknown", unknown + 1
        else:
            state = f"about {spoken(max(seconds, 0.1))}"
            known.append(seconds)
        rows.append({"task": task.title, "state": state, "seconds": seconds})
    if form is Format.text:
        print_plan(rows)
    else:
        print_rows(rows, form)
    rest = f", and {unknown} of unknown length" if unknown else ""
    todo = len(known) + unknown
    say(f"{len(rows)} tasks, {todo} to do: about {spoken(sum(known))}{rest}.")
