"""What every command prints with: tables for people, JSON and CSV for pipes."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    json = "json"
    csv = "csv"


LONGEST_WORD = 24

FormatOption = Annotated[Format, typer.Option("--format", help="table, json or csv")]


def console() -> Console:
    """The terminal for people's messages: standard error, so that standard output pipes."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print a line for the person, on standard error."""
    console().print(message, markup=False)


def print_rows(
    rows: Sequence[Mapping[str, Any]], form: Format = Format.table, title: str | None = None
) -> None:
    """Print rows that share their keys on standard output.

    Args:
        rows: one mapping a row; the keys of the first are the columns.
        form: a table for people, or JSON or CSV for programs.
        title: above the table.
    """
    if form is Format.json:
        print(json.dumps(list(rows), indent=2))
    elif form is Format.csv:
        if rows:
            writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    else:
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(
            title=title,
            box=box.SIMPLE_HEAD,
            title_justify="left",
            title_style="bold",
            pad_edge=False,
            collapse_padding=True,
        )
        for column in rows[0] if rows else ():
            words = " ".join(str(row[column]) for row in rows).split()
            # Names stay whole where there is room: a line breaks between words.
            whole = min(LONGEST_WORD, max(map(len, words), default=0))
            table.add_column(column.replace("_", " "), overflow="fold", min_width=whole)
        for row in rows:
            table.add_row(*("" if value is None else str(value) for value in row.values()))
        Console(highlight=False).print(table)


def first_line(thing: object) -> str:
    """The first line of a thing's docstring, or "" where it has none."""
    return next(iter((thing.__doc__ or "").strip().splitlines()), "")
