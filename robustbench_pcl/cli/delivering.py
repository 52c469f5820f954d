"""Where reports go: to the terminal, to a pipe or to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_pcl.cli.console import Format, print_rows, say
from robustbench_pcl.errors import UserError

if TYPE_CHECKING:
    from robustbench_pcl.report.figures.paper_figures import ReportFigure
    from robustbench_pcl.report.tables.described import DescribedTable
    from robustbench_pcl.report.tables.model import ReportTable


class TableFormat(StrEnum):
    """How a table is written."""

    text = "text"
    md = "md"
    latex = "latex"
    html = "html"
    csv = "csv"
    json = "json"


def deliver_text(content: str, output: Path | None) -> None:
    """Print text, or write it to a file."""
    if output is None:
        print(content, end="")
    else:
        _write(output, content.encode())


def deliver_table(table: ReportTable, form: TableFormat, output: Path | None) -> None:
    """Print a table, in colour on a terminal, or write it to a file."""
    from rich.console import Console

    from robustbench_pcl.report.formats.render import render
    from robustbench_pcl.report.formats.text import terminal_text
    from robustbench_pcl.report.tables.claims import with_worst_cases

    terminal = Console(highlight=False)
    if form is TableFormat.text and output is None and terminal.is_terminal:
        terminal.print(terminal_text(with_worst_cases(table)), soft_wrap=True, end="")
    else:
        deliver_text(render(table, form), output)


def deliver_described(table: DescribedTable, form: TableFormat, output: Path | None) -> None:
    """Print a table of words, or write it to a file."""
    from robustbench_pcl.report.formats.render import render_described

    deliver_text(render_described(table, form), output)


def deliver_figure(figure: ReportFigure, output: Path | None) -> None:
    """Print a figure as SVG, or write it as the file's name says; its caption is for the person.

    Raises:
        UserError: the file is neither .svg nor .png.
    """
    if output is None or output.suffix == ".svg":
        deliver_text(figure.drawing.svg(), output)
    elif output.suffix == ".png":
        _write(output, figure.drawing.png())
    else:
        raise UserError(
            f"A figure cannot be written as {output.name}.",
            "Name a file that ends in .svg or .png.",
        )
    say(f"{figure.title}. {figure.caption}")


def deliver_overview(
    lines: Sequence[Mapping[str, Any]], form: TableFormat, output: Path | None
) -> None:
    """Print how much of each table and figure is measured.

    Raises:
        UserError: a format or a file was asked for that is for tables.
    """
    from robustbench_pcl.report.overview import overview_text

    if form is TableFormat.text and output is None:
        print(overview_text(lines), end="")
    elif form in (TableFormat.csv, TableFormat.json) and output is None:
        print_rows(lines, Format(form.value))
    else:
        raise UserError(
            "There is no table to write.", "Name one with --table 3, or ask for --page."
        )


def _write(output: Path, content: bytes) -> None:
    from robustbench_pcl.store.atomic import write_bytes

    write_bytes(output, content)
    say(f"Wrote {output}.")
