"""``pclbench demo``: the whole pipeline on scikit-learn's digits, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_pcl.cli.console import say
from robustbench_pcl.cli.options import DeviceOption, HomeOption, open_bench

TABLES = (3, 11, 12, 13)
FIGURES = (1, 5, 6, 7)


def demo(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page.", show_default="HOME/results/demo.html"),
    ] = None,
    device: DeviceOption = "cpu",
    home: HomeOption = Path(),
) -> None:
    """Train, attack, transfer, ablate and report on digits; needs no network.

    Widths, epochs, iterations and images are shrunk, and the footnotes say so.
    """
    from robustbench_pcl.cli.report import report
    from robustbench_pcl.cli.working import work
    from robustbench_pcl.jobs.figures import figure_jobs
    from robustbench_pcl.jobs.tables import table_jobs

    bench = open_bench(home, device)
    tables = [job for number in TABLES for job in table_jobs(number, "digits", "demo")]
    figures = [job for number in FIGURES for job in figure_jobs(number, "digits", "demo")]
    work([*tables, *figures], bench)
    for number in TABLES:
        report(table=number, dataset=["digits"], scale="demo", home=home)
        print()
    page = output or home / "results" / "demo.html"
    report(page=True, dataset=["digits"], scale="demo", output=page, home=home)
    say(f"The page: {page.resolve()}")
