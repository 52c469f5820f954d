"""``pclbench run``: whatever a table still needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_pcl.cli.console import Format, print_rows, say
from robustbench_pcl.cli.options import (
    DataRootOption,
    DeviceOption,
    HomeOption,
    ImagesOption,
    ScaleOption,
    SeedOption,
    open_bench,
    read_scale,
)

if TYPE_CHECKING:
    from robustbench_pcl.jobs.bench import Bench
    from robustbench_pcl.jobs.plan import Job


def run(
    *,
    table: Annotated[list[int], typer.Option(help="A table of the paper; may be repeated.")],
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Only this data set; may be repeated.", show_default="the table's"),
    ] = None,
    scale: ScaleOption = None,
    images: ImagesOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done.")
    ] = False,
    data_root: DataRootOption = None,
    home: HomeOption = Path(),
) -> None:
    """Plan what the tables still need, do it, and show them.

    What is stored is never made again, so the command may be stopped and
    repeated, and two tables share their models and adversarial images.
    """
    from robustbench_pcl.cli.working import work
    from robustbench_pcl.jobs.tables import table_jobs
    from robustbench_pcl.paper.table import published

    sizes = read_scale(scale)
    wanted = [
        (number, name)
        for number in table
        for name in dataset or [section.dataset for section in published(number).sections]
    ]
    jobs = [job for number, name in wanted for job in table_jobs(number, name, sizes, seed)]
    bench = open_bench(home, device, data_root, images, seed)
    if dry_run:
        print_rows(_plan_rows(jobs, bench), Format.table)
        return
    work(jobs, bench)
    for number in table:
        _show_table(number, [name for n, name in wanted if n == number], sizes, seed, home)


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


def _show_table(number: int, datasets: Sequence[str], scale: str, seed: int, home: Path) -> None:
    from robustbench_pcl.cli.report import report

    report(table=number, dataset=list(datasets), scale=scale, seed=seed, home=home)
