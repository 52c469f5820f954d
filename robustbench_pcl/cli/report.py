"""``pclbench report``: the paper's tables, measured beside published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustbench_pcl.cli.console import Format, print_rows, say
from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.specs.names import SCALES, Scale

if TYPE_CHECKING:
    from robustbench_pcl.report.model import ReportTable


class TableFormat(StrEnum):
    """How a table is written."""

    text = "text"
    md = "md"
    latex = "latex"
    html = "html"
    csv = "csv"
    json = "json"


def report(
    *,
    table: Annotated[
        int | None, typer.Option(help="Number of a table in the paper.", show_default=False)
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Only this data set; may be repeated.", show_default="all measured"),
    ] = None,
    form: Annotated[
        TableFormat, typer.Option("--format", help="How to write the table.")
    ] = TableFormat.text,
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
    the command that measures it. Without --table and --page, list the tables
    and how much of each is measured.
    """
    from robustbench_pcl.report.evidence import Evidence
    from robustbench_pcl.report.full_page import full_page
    from robustbench_pcl.report.overview import overview
    from robustbench_pcl.report.table import report_table
    from robustbench_pcl.store.home import Home
    from robustbench_pcl.store.measurements import load_measurements, load_trainings

    results = Home(home).results
    evidence = Evidence(load_measurements(results), load_trainings(results))
    names = dataset or []
    if page:
        numbers = [] if table is None else [table]
        _deliver(full_page(evidence, numbers, names, _scale(scale), seed), output)
    elif table is not None:
        _deliver_table(report_table(table, evidence, names, _scale(scale), seed), form, output)
    else:
        _list(overview(evidence, names, _scale(scale), seed), form, output)


def _scale(name: str | None) -> Scale | None:
    for scale in SCALES:
        if name == scale:
            return scale
    if name is not None:
        raise unknown_name("scale", name, SCALES)
    return None


def _deliver_table(table: ReportTable, form: TableFormat, output: Path | None) -> None:
    from rich.console import Console

    from robustbench_pcl.report.render import render
    from robustbench_pcl.report.text import terminal_text

    terminal = Console(highlight=False)
    if form is TableFormat.text and output is None and terminal.is_terminal:
        terminal.print(terminal_text(table), soft_wrap=True, end="")
    else:
        _deliver(render(table, form), output)


def _deliver(content: str, output: Path | None) -> None:
    from robustbench_pcl.store.atomic import write_bytes

    if output is None:
        print(content, end="")
    else:
        write_bytes(output, content.encode())
        say(f"Wrote {output}.")


def _list(rows: Sequence[Mapping[str, Any]], form: TableFormat, output: Path | None) -> None:
    from robustbench_pcl.report.overview import overview_text

    if form is TableFormat.text and output is None:
        print(overview_text(rows), end="")
    elif form in (TableFormat.csv, TableFormat.json) and output is None:
        print_rows(rows, Format(form.value))
    else:
        raise UserError(
            "There is no table to write.", "Name one with --table 3, or ask for --page."
        )
