"""``pclbench run``: whatever a table still needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_pcl.cli.console import Format, FormatOption, print_rows, say
from robustbench_pcl.cli.executor import ExecutorOption, ExecutorSettingOption, read_executor
from robustbench_pcl.cli.options import (
    DataRootOption,
    DeviceOption,
    ExactOption,
    HomeOption,
    ImagesOption,
    ScaleOption,
    SeedOption,
    open_bench,
    read_scale,
)
from robustbench_pcl.cli.report import report
from robustbench_pcl.cli.working import work
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.jobs.bench import Bench
    from robustbench_pcl.jobs.executors.base import Executor
    from robustbench_pcl.jobs.plan import Job
    from robustbench_pcl.specs.names import Scale


def run(
    *,
    table: Annotated[
        list[int] | None,
        typer.Option(help="A table of the paper; may be repeated.", show_default=False),
    ] = None,
    figure: Annotated[
        list[int] | None,
        typer.Option(help="A figure of the paper; may be repeated.", show_default=False),
    ] = None,
    suite: Annotated[
        Path | None,
        typer.Option(help="A suite of your own: docs/suites.md.", show_default=False),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Only this data set; may be repeated.", show_default="the paper's"),
    ] = None,
    scale: ScaleOption = None,
    images: ImagesOption = None,
    seed: SeedOption = 0,
    exact: ExactOption = False,
    device: DeviceOption = "auto",
    executor: ExecutorOption = "local",
    executor_option: ExecutorSettingOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done.")
    ] = False,
    data_root: DataRootOption = None,
    home: HomeOption = Path(),
    form: FormatOption = Format.table,
) -> None:
    """Plan what tables, figures or a suite still need, do it, and show them.

    What is stored is never made again, so the command may be stopped and
    repeated, and two tables share their models and adversarial images.
    """
    if bool(table or figure) == bool(suite):
        raise UserError(
            "Give tables and figures of the paper, or a suite.",
            "Write --table 3, --figure 7, or --suite my.toml.",
        )
    if suite is not None and (dataset or scale or seed):
        raise UserError(
            "A suite says its own data sets, scale and seed.",
            f"Leave --dataset, --scale and --seed out, and write them in {suite}.",
        )
    runner = read_executor(executor, executor_option)
    bench = open_bench(home, device, data_root, images, seed, exact=exact)
    if suite is not None:
        _run_suite(suite, bench, runner, dry_run, form)
    else:
        paper = _Paper(table or [], figure or [], dataset or [], read_scale(scale), seed)
        if dry_run:
            print_rows(_plan_rows(paper.jobs(), bench), Format.table)
        else:
            work(paper.jobs(), bench, runner)
            paper.show(bench)


@dataclass(frozen=True)
class _Paper:
    """Parts of the paper, on some data sets (its own if none is named)."""

    tables: list[int]
    figures: list[int]
    datasets: list[str]
    scale: Scale
    seed: int

    def jobs(self) -> list[Job]:
        """What they need."""
        from robustbench_pcl.jobs.figures import figure_jobs
        from robustbench_pcl.jobs.tables import table_jobs
        from robustbench_pcl.paper.figures import paper_figure
        from robustbench_pcl.paper.table import published

        jobs: list[Job] = []
        for number in self.tables:
            for dataset in self.datasets or published(number).datasets:
                jobs += table_jobs(number, dataset, self.scale, self.seed)
        for number in self.figures:
            for dataset in self.datasets or paper_figure(number).datasets:
                jobs += figure_jobs(number, dataset, self.scale, self.seed)
        return jobs

    def show(self, bench: Bench) -> None:
        """Print the tables; draw the figures into files beside the results."""
        from robustbench_pcl.paper.figures import paper_figure
        from robustbench_pcl.paper.table import published

        home = bench.home
        for number in self.tables:
            names = self.datasets or list(published(number).datasets)
            report(table=number, dataset=names, scale=self.scale, seed=self.seed, home=home.root)
        for number in self.figures:
            report(
                figure=number,
                dataset=self.datasets or list(paper_figure(number).datasets),
                scale=self.scale,
                seed=self.seed,
                output=home.results / f"figure{number:02}.svg",
                home=home.root,
            )


def _run_suite(path: Path, bench: Bench, executor: Executor, dry_run: bool, form: Format) -> None:
    from robustbench_pcl.cli.working import measured, show_measurements
    from robustbench_pcl.jobs.plan import plan
    from robustbench_pcl.jobs.suite import load_suite

    suite = load_suite(path)
    bench.seed = suite.seed
    measures = suite.measures()
    if dry_run:
        print_rows(_plan_rows(plan(measures), bench), form)
    else:
        show_measurements(measured(measures, bench, executor), form)


def _plan_rows(jobs: Sequence[Job], bench: Bench) -> list[dict[str, Any]]:
    from robustbench_pcl.jobs.estimate import Estimator
    from robustbench_pcl.progress import spoken

    estimator = Estimator(bench)
    rows, total = [], 0.0
    for title, job in {job.title: job for job in jobs}.items():
        done = job.done(bench)
        seconds = 0.0 if done else estimator.seconds(job)
        total += seconds
        rows.append({"step": title, "state": "done" if done else f"about {spoken(seconds)}"})
    say(f"{len(rows)} steps, about {spoken(total)} to do on {bench.device}.")
    return rows
