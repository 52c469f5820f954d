"""A table as text, Markdown, LaTeX, HTML, CSV or JSON; what fills the templates is escaped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from tabulate import tabulate

from robustbench_pcl.configuration import Scale
from robustbench_pcl.errors import unknown_name, visible
from robustbench_pcl.report.described import TITLES, DescribedTable, described_table
from robustbench_pcl.report.entries import Entry, Row, entry_fields
from robustbench_pcl.report.formatting import (
    csv_text,
    short_code,
    show_difference,
    show_interval,
    show_measured,
    show_published,
    superscript,
)
from robustbench_pcl.report.latex import APART, CLOSER, Grid, laid_out
from robustbench_pcl.report.latex_tables import table_grids, words_grid
from robustbench_pcl.report.latex_text import Verbatim, escape_latex
from robustbench_pcl.report.results import HasPaths, load_evidence, paths_of
from robustbench_pcl.report.schema import DOCUMENTS, csv_rows, json_text, typed_frame
from robustbench_pcl.report.table import Section, Table, report_table
from robustbench_pcl.report.text import legend, show_spread, significance, terminal_text
from robustbench_pcl.store.reading import warn
from robustbench_pcl.version import __version__

FORMATS = ("text", "md", "latex", "html", "csv", "json")
UNITS = {"accuracy": " %", "seconds_per_epoch": " s", "epochs": " epochs"}
_LATEX_SIGNS = {
    "block_start_string": "<%",
    "block_end_string": "%>",
    "variable_start_string": "<<",
    "variable_end_string": ">>",
    "comment_start_string": "<#",
    "comment_end_string": "#>",
}
"""Braces and per cent signs are LaTeX's own."""


@dataclass(frozen=True)
class Rendered:
    """A table that prints well in a terminal and in a notebook.

    Attributes:
        table: its sections, rows and entries.
        interval: whether measured numbers have their 95 % intervals beside them.
    """

    table: Table | DescribedTable
    interval: bool = False

    def __str__(self) -> str:
        return render(self.table, "text", interval=self.interval)

    def _repr_html_(self) -> str:
        return render(self.table, "html", interval=self.interval)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per cell: the question, the measured and the published number."""
        return table_frame(self.table)


def table(
    number: int,
    workspace: str | Path | HasPaths = ".",
    *,
    datasets: Sequence[str] = (),
    scale: Scale | None = None,
    seeds: Sequence[int] = (),
    models: Sequence[str] = (),
    columns: Sequence[str] = (),
    interval: bool = False,
) -> Rendered:
    """A table of the paper, what is stored beside what was published.

    A stored file that cannot be read is left out, and a warning says why.

    Args:
        number: the paper's.
        workspace: a workspace, or the folder that holds ``checkpoints/`` and ``results/``.
        datasets: to show; by default those with a measurement.
        scale: of the recipes; by default the most faithful one measured.
        seeds: of the recipes' training; any by default. Of several the mean is shown.
        models: further ones that something is stored of, beneath the paper's.
        columns: some of the table's, by their headings ("White-box PGD", "PGD"); all by default.
        interval: with each measured number's 95 % interval.

    Raises:
        UserError: there is no such table, data set or column, or nothing is stored of a model.
    """
    if number in TITLES:
        return Rendered(described_table(number).only(columns))
    evidence = load_evidence(paths_of(workspace), warn)
    found = report_table(number, evidence, datasets, scale, seeds, models=models, columns=columns)
    return Rendered(found, interval)


def render(table: Table | DescribedTable, form: str, *, interval: bool = False) -> str:
    """The table in a format, ending in a newline.

    Args:
        table: what to write.
        form: of :data:`FORMATS`.
        interval: with each measured number's 95 % interval; csv and json always have it.

    Raises:
        UserError: there is no such format.
    """
    match form:
        case "text":
            text = terminal_text(table, interval=interval).plain
            return "".join(f"{line.rstrip()}\n" for line in text.splitlines())
        case "csv":
            return _csv(table)
        case "json":
            return tables_json([table])
        case "latex":
            return _latex(table, interval=interval)
        case "md" | "html":
            return filled_template(table, form, interval=interval)
    raise unknown_name("format", form, FORMATS)


def table_frame(table: Table | DescribedTable) -> pd.DataFrame:
    """The table's cells, one row each; the rows of a table of words are its own."""
    if isinstance(table, DescribedTable):
        return pd.DataFrame(list(table.rows), columns=list(table.columns), dtype=object)
    return typed_frame(DOCUMENTS["table"].columns, list(_cells(table)))


def _csv(table: Table | DescribedTable) -> str:
    if isinstance(table, DescribedTable):
        return csv_text(table_frame(table))
    return csv_rows("table", list(_cells(table)))


def tables_json(tables: Sequence[Table | DescribedTable]) -> str:
    """Tables as one document; those of words are none of numbers."""
    heads = [
        {"footnotes": (), **vars(table), "table": table.number, "title": table.title}
        for table in tables
    ]
    described = [table for table in tables if isinstance(table, DescribedTable)]
    if described:
        lines = [(table.columns, row) for table in described for row in table.rows]
        rows = [dict(zip(columns, row, strict=True)) for columns, row in lines]
        return json_text("description", rows, tables=heads)
    numbers = [table for table in tables if isinstance(table, Table)]
    return json_text(
        "table",
        [cell for table in numbers for cell in _cells(table)],
        tables=heads,
        sections=[_section(table, section) for table in numbers for section in table.sections],
    )


def _cells(table: Table) -> Iterator[dict[str, Any]]:
    """The fields of each cell, row by row."""
    for section in table.sections:
        shared = {"table": table.number, "dataset": section.dataset, "scale": section.scale}
        for row in section.rows:
            for entry in row.entries:
                yield {**shared, "row": row.heading.name, **entry_fields(entry, section.scale)}


def _section(table: Table, section: Section) -> dict[str, Any]:
    """The fields of a section."""
    return {
        **vars(section),
        "table": table.number,
        "worst_cases": [
            {
                **vars(case),
                "verdict": case.verdict,
                "diagnosis": case.diagnosis and case.diagnosis.id,
            }
            for case in section.worst_cases
        ],
        "measured_count": section.measured,
        "missing_count": section.missing,
        "command": section.command,
    }


def filled_template(table: Table | DescribedTable, form: str, *, interval: bool) -> str:
    """The table by the template of that format: md or html."""
    kind = "words" if isinstance(table, DescribedTable) else "table"
    return fill(form, kind, table=table, interval=interval, linked={})


def _latex(table: Table | DescribedTable, *, interval: bool) -> str:
    command = f"pclbench report --table {table.number}"
    if isinstance(table, DescribedTable):
        return latex_floats([words_grid(table)], command)
    command += table.asked.options + " --interval" * interval
    missing = [f"missing cells: {each}" for each in table.commands]
    return latex_floats(table_grids(table, interval=interval), command, missing)


def latex_floats(grids: Iterable[Grid], command: str, comments: Sequence[str] = ()) -> str:
    """Tables as LaTeX that fits a two-column article.

    Args:
        grids: the tables.
        command: makes them again.
        comments: further ones, a line each.
    """
    first = (
        f"{command} --format latex (pclbench {__version__})",
        r"needs \usepackage{booktabs}; what is cited: the same command with --bib",
    )
    lines = [visible(" ".join(comment.split())) for comment in (*first, *comments)]
    floats = laid_out(list(grids))
    return fill("latex", "floats", floats=floats, comments=lines, closer=CLOSER, apart=APART)


def fill(form: str, template: str, **content: Any) -> str:
    """A template of a format (md, latex or html), filled; it ends in a newline."""
    suffix = "tex" if form == "latex" else form
    filled = _ENVIRONMENTS[form].get_template(f"{template}.{suffix}").render(**content)
    return filled.rstrip("\n") + "\n"


def escape_markdown(text: object) -> str:
    """Text whose characters mean themselves in Markdown and inside its tables."""
    if isinstance(text, Verbatim):
        return text
    return re.sub(r"([\\|*_<\[\]`])", r"\\\1", str(text))


def _grid(
    heads: Sequence[str], rows: Sequence[Any], cell: Callable[[Entry], str] | None = None
) -> Verbatim:
    """Rows as a Markdown table that is a table as plain text too.

    Args:
        heads: of the columns.
        rows: of words; or of entries, which stand on the right.
        cell: writes an entry in Markdown.
    """
    if cell:
        rows = [[row.heading.name, *(Verbatim(cell(each)) for each in row.entries)] for row in rows]
    lines = [list(map(escape_markdown, line)) for line in (heads, *rows)]
    sides = ["left", *["right" if cell else "left"] * (len(heads) - 1)]
    grid = tabulate(
        lines, headers="firstrow", tablefmt="pipe", disable_numparse=True, colalign=sides
    )
    return Verbatim(grid)


def _losses(text: str) -> Markup:
    """Text as HTML; losses are written as the paper does, L with an index."""
    return Markup(re.sub(r"\bL_(\w+)", r"L<sub>\1</sub>", str(escape(text))))


def _classes(table: Table, entry: Entry) -> str:
    states = {
        "best": entry.best,
        "missing": entry.measured is None,
        "white-box": table.is_matrix and entry.cell.white_box and not entry.is_summary,
        "worst": entry.is_summary,
    }
    return " ".join(name for name, present in states.items() if present)


def _full(row: Row) -> float:
    """The value that fills a bar: 100 %, or the row's largest number of seconds or epochs."""
    if row.entries[0].cell.quantity == "accuracy":
        return 100
    return max(max(entry.measured or 0, entry.published or 0) for entry in row.entries) or 1


def _details(entry: Entry) -> str:
    """What a pointer resting on the cell shows."""
    unit = UNITS[entry.cell.quantity]
    parts = [entry.words or "not measured"]
    if entry.measured is not None:
        parts = [f"measured {_measured(entry)}{unit}"]
    if entry.spread is not None:
        parts.append(f"standard deviation over {entry.seeds} seeds {show_spread(entry)}")
    if entry.interval:
        parts.append(f"95 % interval {show_interval(entry.interval)}")
    if entry.n:
        parts.append(f"n = {entry.n:,}")
    if entry.verdict:
        parts.append(f"verdict {entry.verdict}")
    if entry.published is not None:
        parts.append(f"paper {_published(entry)}{unit}")
    if entry.difference is not None:
        parts.append(f"difference {_difference(entry)}")
    return "; ".join(parts)


def _measured(entry: Entry) -> str:
    return (entry.words or show_measured(entry.measured, entry.cell.quantity)) + entry.mark


def _published(entry: Entry) -> str:
    return "" if entry.words else show_published(entry.published, entry.cell.quantity)


def _difference(entry: Entry) -> str:
    return show_difference(entry.difference, entry.cell.quantity)


def _environment(finalize: Callable[[object], str] | None = None, **options: Any) -> Environment:
    """How templates of a format are read; ``finalize`` escapes what they are filled with."""
    environment = Environment(
        loader=PackageLoader("robustbench_pcl.report"),
        autoescape=finalize is None,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        **options,
    )
    environment.globals |= {
        "measured": _measured,
        "published": _published,
        "difference": _difference,
        "spread": show_spread,
        "show_interval": show_interval,
        "show_measured": show_measured,
        "short_code": short_code,
        "superscript": superscript,
        "legend": legend,
        "significance": significance,
        "classes": _classes,
        "details": _details,
        "full": _full,
        "grid": _grid,
    }
    environment.filters |= {"losses": _losses, "verbatim": Verbatim}
    return environment


_ENVIRONMENTS = {
    "html": _environment(),
    "md": _environment(escape_markdown),
    "latex": _environment(escape_latex, **_LATEX_SIGNS),
}
