"""``pclbench demo``: the whole pipeline on scikit-learn's digits, in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robustbench_pcl.cli.console import say
from robustbench_pcl.cli.options import DeviceOption, HomeOption, open_bench

TABLES = (3, 11, 12)
MATRIX = ("vgg19", "advtrain", "ours")


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
    from robustbench_pcl.data.catalogue import dataset_spec
    from robustbench_pcl.jobs.plan import plan
    from robustbench_pcl.jobs.tables import table_jobs, transfer_jobs
    from robustbench_pcl.recipes.named import named_recipe
    from robustbench_pcl.specs.base import Part

    bench = open_bench(home, device)
    recipes = [named_recipe(name, "digits", "demo") for name in MATRIX]
    attack = Part(name="pgd", parameters={"eps": dataset_spec("digits").eps})
    jobs = [job for number in TABLES for job in table_jobs(number, "digits", "demo")]
    work([*jobs, *plan(transfer_jobs(recipes, recipes, attack))], bench)
    for number in (*TABLES, 13):
        report(table=number, dataset=["digits"], scale="demo", home=home)
        print()
    page = output or home / "results" / "demo.html"
    report(page=True, dataset=["digits"], scale="demo", output=page, home=home)
    say(f"The page: {page.resolve()}")
