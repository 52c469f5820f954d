"""How commands get work done: what is missing is announced, made and shown."""

import gc
import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from robustbench_pcl.cli.choices import Format, executor_names, offered
from robustbench_pcl.cli.jobs import summarise
from robustbench_pcl.cli.options import FormatOption, Place, read_settings
from robustbench_pcl.cli.output import say, typed
from robustbench_pcl.cli.plan import announced, show_plan
from robustbench_pcl.errors import UserError, unknown_name

if TYPE_CHECKING:
    from robustbench_pcl.configuration import Mode
    from robustbench_pcl.pipeline.artefacts import AnyTask
    from robustbench_pcl.pipeline.executors import Executor
    from robustbench_pcl.pipeline.workspace import Workspace

T = TypeVar("T", bound="AnyTask")
STARTING, USUAL = 500_000, gc.get_threshold()
"""So many objects more than before make Python look for garbage, while a command starts and then:
tensors that are garbage should not wait long."""


@dataclass(frozen=True, kw_only=True)
class Tasks(Place):
    """How tasks are done, and how what comes of them is shown."""

    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of tasks at a time, each in its own process: one on each GPU, or on "
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
            help="Such as partition=gpu or gpus=1 (docs/how-to/cluster.md); may be repeated.",
            show_default=False,
        ),
    ] = None
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Only tasks with this in their title, such as a recipe or data set, or of this "
            "kind: train, generate, measure, ...; * stands for anything; may be repeated.",
            show_default=False,
        ),
    ] = None
    limit_time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Start only what will end in this time, by the estimate: 90s, 30m, 2h, 1h30m.",
            show_default="none",
        ),
    ] = None
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going", help="If a task fails, still do everything that does not need it."
        ),
    ] = False
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
            raise explained(error, "--executor-option", "See docs/how-to/cluster.md.") from error


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


@dataclass(frozen=True)
class Done:
    """What came of the work.

    Attributes:
        lacking: the keys of tasks whose artefacts are not there.
        absent: names of the data sets that were not found.
        failure: what failed while the rest was done.
    """

    lacking: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    failure: UserError | None = None

    def of(self, tasks: "Iterable[T]") -> "list[T]":
        """Those of some tasks whose artefacts are there."""
        return [task for task in tasks if task.key not in self.lacking]

    def found(self, datasets: Iterable[str]) -> tuple[str, ...]:
        """Those of some data sets that were found."""
        return tuple(name for name in datasets if name not in self.absent)

    def settle(self) -> None:
        """Raise what failed, now that the rest is shown."""
        if self.failure is not None:
            raise self.failure


def carry_out(
    tasks: "Sequence[AnyTask]", workspace: "Workspace", options: Tasks | None = None
) -> Done | None:
    """Do what is missing for some tasks, having said how much it is; or only show it.

    A few tasks on trained models are not announced: their own bars show the time that is left.

    Args:
        tasks: what is wanted; what these need is made first.
        workspace: where artefacts are found and made.
        options: how; None for one task after the other in this process.

    Returns:
        What came of it; None with --dry-run.

    Raises:
        UserError: the executor or an option of it is wrong, no data set is found, the disk is too
            small, or a task failed that stops the rest.
    """
    from robustbench_pcl.pipeline.executors import Local
    from robustbench_pcl.pipeline.planner import missing, select
    from robustbench_pcl.pipeline.runs import Terms, tidy
    from robustbench_pcl.pipeline.sharding import sharded
    from robustbench_pcl.progress import read_duration
    from robustbench_pcl.store.atomic import require_writable

    executor = options.read_executor() if options else Local()
    limited = options.limit_time if options else None
    limit = math.inf if limited is None else read_duration(limited)
    chosen = select(tasks, options.only) if options and options.only else tasks
    if options and options.dry_run:
        show_plan(chosen, workspace, options.form)
        return None
    workspace.clean()
    tidy(workspace.paths.jobs)
    absent = _not_found(chosen, workspace)
    chosen = [task for task in chosen if task.dataset not in absent]
    if options:
        check_external(chosen, workspace)
    lacking = missing(chosen, workspace)
    whole, failure = chosen == list(tasks), None
    if lacking:
        where = _where(executor, workspace)
        require_writable(workspace.paths.root)
        lacking = sharded(lacking, workspace, getattr(executor, "workers", 1))
        work = announced(lacking, chosen, workspace, executor, where)
        _keep_what_is_imported()
        terms = Terms(
            command=typed(sys.argv[1:]),
            keep_going=bool(options and options.keep_going),
            until=time.monotonic() + limit,
            ended=lambda run: summarise(run, workspace, limited),
        )
        run = executor.execute(work, workspace, terms)
        whole, failure = whole and len(run.record.of("done")) == len(work), run.failure()
    if whole:
        return Done()
    rest = {task.key for task in tasks if task.dataset in absent or not workspace.has(task)}
    return Done(frozenset(rest), frozenset(absent), failure)


def check_external(tasks: "Iterable[AnyTask]", workspace: "Workspace") -> None:
    """Say, before it is attacked, whether a user's own model can be judged.

    Raises:
        UserError: another model would be measured than the one that is meant.
    """
    from robustbench_pcl.recipe import ExternalModel

    models: dict[str, ExternalModel] = {}
    for task in tasks:
        external = {each.id(): each for each in task.models if isinstance(each, ExternalModel)}
        if external and not workspace.has(task):
            models |= external
    for model in models.values():
        say(f"{model.name}, before it is attacked:")
        for finding in workspace.inspect(model):
            if finding.useless:
                raise UserError(f"{model.name}: {finding.said}", finding.cure)
            say(fill(str(finding), 80, initial_indent="  ", subsequent_indent="    "))


def _not_found(tasks: "Iterable[AnyTask]", workspace: "Workspace") -> "set[str]":
    """The data sets of some tasks that are not here and cannot be fetched, having said so.

    Raises:
        UserError: that is all of them.
    """
    names = list(dict.fromkeys(task.dataset for task in tasks))
    absent: dict[str, UserError] = {}
    for name in names:
        try:
            workspace.dataset(name)
        except UserError as error:
            absent[name] = error
    if absent and len(absent) == len(names):
        raise next(iter(absent.values()))
    for reason in absent.values():
        workspace.pass_over(reason)
    return set(absent)


def _where(executor: "Executor", workspace: "Workspace") -> str:
    """What computes, in words; "" if tasks are sent elsewhere.

    Raises:
        UserError: there is no such device here.
    """
    from robustbench_pcl.environment import has_accelerator

    if executor.elsewhere:
        return ""
    if executor.name != "local" and workspace.device_name in ("auto", "cpu"):  # without torch
        accelerated = workspace.device_name == "auto" and has_accelerator()
        return f" on {'cuda' if accelerated else 'cpu'}"
    return f" on {workspace.device}"


def _keep_what_is_imported() -> None:
    """Look for garbage as usual from now on, but never again in what is there by now."""
    gc.freeze()
    gc.set_threshold(*USUAL)
