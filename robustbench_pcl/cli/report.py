"""``pclbench report``: the paper's tables and figures, measured beside published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from robustbench_pcl.cli.console import say
from robustbench_pcl.cli.delivering import (
    TableFormat,
    deliver_described,
    deliver_figure,
    deliver_overview,
    deliver_table,
    deliver_text,
)
from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.specs.names import SCALES, Scale


def report(
    *,
    table: Annotated[
        int | None, typer.Option(help="Number of a table in the paper.", show_default=False)
    ] = None,
    figure: Annotated[
        int | None,
        typer.Option(
            help="Number of a figure in the paper, as SVG, or PNG by --output's name.",
            show_default=False,
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Only this data set; may be repeated.", show_default="all measured"),
    ] = None,
    form: Annotated[
        TableFormat, typer.Option("--format", help="How to write the table.")
    ] = TableFormat.text,
    interval: Annotated[
        bool, typer.Option("--interval", help="With 95 % intervals; csv and json always are.")
    ] = False,
    page: Annotated[
        bool, typer.Option("--page", help="One HTML page with all tables and figures.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file.", show_default="print"),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help=f"Only recipes at this scale: {', '.join(SCALES)}.",
            show_default="the most faithful one measured",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Only recipes with this seed.", show_default="any")
    ] = None,
    home: Annotated[
        Path,
        typer.Option(help="Folder with checkpoints/ and results/.", envvar="PCLBENCH_HOME"),
    ] = Path(),
) -> None:
    """Show what was measured beside what the paper prints.

    Nothing is trained or attacked: what is missing is shown as missing, with
    the command that measures it. Tables 1, 2 and 10 describe the code itself.
    Without --table, --figure and --page, list what there is and how much of it
    is measured.
    """
    from robustbench_pcl.paper.table import published_numbers
    from robustbench_pcl.report.evidence import Evidence
    from robustbench_pcl.report.figures.paper_figures import report_figure
    from robustbench_pcl.report.overview import overview
    from robustbench_pcl.report.page.contents import full_page
    from robustbench_pcl.report.tables.described import TITLES, described_table
    from robustbench_pcl.report.tables.table import report_table
    from robustbench_pcl.store.embeddings import load_embeddings
    from robustbench_pcl.store.home import Home
    from robustbench_pcl.store.measurements import load_measurements, load_trainings

    if figure is not None and (table is not None or page):
        raise UserError("A figure is written by itself.", "Leave --table and --page out.")
    if table in TITLES and not page:
        if dataset or scale or seed is not None or interval:
            raise UserError(
                f"Table {table} describes the code, not measurements.",
                "Leave --dataset, --scale, --seed and --interval out.",
            )
        deliver_described(described_table(table), form, output)
        return
    if table is not None and table not in published_numbers():
        known = ", ".join(map(str, sorted({*TITLES, *published_numbers()})))
        raise UserError(f"There is no table {table} in the paper.", f"Known: --table {known}.")
    stored = Home(home)
    evidence = Evidence(load_measurements(stored.results), load_trainings(stored.results))
    names, size = dataset or [], _scale(scale)
    if table is not None and not page:
        found = report_table(table, evidence, names, size, seed)
        deliver_table(replace(found, intervals=interval), form, output)
        return
    embeddings = load_embeddings(stored.embeddings)
    if page:
        numbers = [] if table is None else [table]
        text = full_page(
            evidence, embeddings, numbers, names, scale=size, seed=seed, intervals=interval
        )
        deliver_text(text, output)
    elif figure is not None:
        drawn = report_figure(figure, evidence, embeddings, names, scale=size, seed=seed)
        deliver_figure(drawn, output)
    else:
        lines = overview(evidence, embeddings, names, scale=size, seed=seed)
        deliver_overview(lines, form, output)
    if not home.is_dir():
        say(f"There is no folder {home}, so nothing is stored in it: check --home.")


def _scale(name: str | None) -> Scale | None:
    for scale in SCALES:
        if name == scale:
            return scale
    if name is not None:
        raise unknown_name("scale", name, SCALES)
    return None
