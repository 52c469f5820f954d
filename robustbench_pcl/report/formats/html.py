"""A table in HTML: readable as it is, and with bars under the page's style sheet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from robustbench_pcl.report.formatting import (
    percent,
    show_difference,
    show_interval,
    show_measured,
    show_published,
)
from robustbench_pcl.report.tables.described import DescribedTable
from robustbench_pcl.report.tables.model import Entry, ReportSection, ReportTable, Row

UNITS = {"accuracy": " %", "seconds_per_epoch": " s", "epochs": " epochs"}


def render_html(table: ReportTable) -> str:
    """A ``<section>`` with one HTML table a data set, footnotes and commands."""
    parts = [part for section in table.sections for part in _section(table, section)]
    if table.remarks:
        items = "".join(f"<li>{escape(remark)}</li>" for remark in table.remarks)
        parts.append(f'<ol class="remarks">{items}</ol>')
    if table.commands:
        commands = escape("\n".join(table.commands))
        parts.append(f"<p>Missing cells are measured by</p>\n<pre><code>{commands}</code></pre>")
    return _whole(table, f"{escape(table.caption)} {_legend(table)}", parts)


def described_html(table: DescribedTable) -> str:
    """A ``<section>`` with a table of words and its footnotes."""
    head = "".join(f'<th scope="col">{_words(column)}</th>' for column in table.columns)
    rows = (
        f'<tr><th scope="row">{_words(first)}</th>'
        + "".join(f"<td>{_words(entry)}</td>" for entry in entries)
        + "</tr>"
        for first, *entries in table.rows
    )
    parts = [*_grid("words", [f"<tr>{head}</tr>"], rows), *_notes(table.footnotes)]
    return _whole(table, _words(table.caption), parts)


def _whole(table: ReportTable | DescribedTable, caption: str, parts: Iterable[str]) -> str:
    """The section round a table; ``caption`` is HTML."""
    lines = [
        f'<section class="report-table" id="table-{table.number}">',
        f"<h2>{escape(table.heading)}</h2>",
        f'<p class="caption">{caption}</p>',
        *parts,
        "</section>",
    ]
    return "\n".join(lines) + "\n"


def _grid(kind: str, head: Iterable[str], rows: Iterable[str]) -> Iterator[str]:
    yield f'<div class="scroll" tabindex="0"><table class="{kind}">'
    yield f"<thead>{''.join(head)}</thead>"
    yield "<tbody>"
    yield from rows
    yield "</tbody></table></div>"


def _notes(footnotes: Sequence[str]) -> Iterator[str]:
    if footnotes:
        notes = "".join(f"<li>{_words(note)}</li>" for note in footnotes)
        yield f'<ul class="notes">{notes}</ul>'


def _words(text: str) -> str:
    """Text as HTML; losses are written as the paper does, L with an index."""
    return re.sub(r"\bL_(\w+)", r"L<sub>\1</sub>", escape(text))


def _legend(table: ReportTable) -> str:
    interval = f" with its {percent('95')} interval" if table.intervals else ""
    measured = f"measured{interval}, <b>bold</b> if best of the recipes compared."
    if not table.has_published:
        return f"Shown: {measured}"
    return (
        f"Large: {measured} Small: the paper's number, a tick on the bar, and "
        "<i>measured less the paper's</i>."
    )


def _section(table: ReportTable, section: ReportSection) -> Iterator[str]:
    yield f'<h3 id="table-{table.number}-{escape(section.dataset)}">{escape(section.heading)}</h3>'
    yield from _grid("numbers", _head(table), (_row(table, row) for row in section.rows))
    yield from _notes(section.footnotes)


def _head(table: ReportTable) -> Iterator[str]:
    if any(name for name, _ in table.column_groups):
        cells = "".join(
            f'<th colspan="{span}" scope="colgroup">{escape(name)}</th>'
            if name
            else f'<td colspan="{span}"></td>'
            for name, span in table.column_groups
        )
        yield f"<tr><td></td>{cells}</tr>"
    cells = "".join(f'<th scope="col">{escape(column.label)}</th>' for column in table.columns)
    yield f"<tr><td></td>{cells}</tr>"


def _row(table: ReportTable, row: Row) -> str:
    full = _full_bar(row)
    cells = "".join(_entry(table, entry, full) for entry in row.entries)
    return f'<tr><th scope="row">{escape(row.heading.name)}</th>{cells}</tr>'


def _cell(classes: Iterable[str], title: str, content: str) -> str:
    names = " ".join(classes)
    attributes = f' class="{names}"' if names else ""
    return f'<td{attributes} title="{escape(title)}">{content}</td>'


def _entry(table: ReportTable, entry: Entry, full: float) -> str:
    quantity = entry.cell.quantity
    states = {
        "best": entry.best,
        "missing": entry.measured is None,
        "white-box": table.is_matrix and entry.white_box,
        "worst": entry.is_worst_case,
    }
    measured = show_measured(entry.measured, quantity)
    content = f"<b>{measured}</b>" if entry.best else f"<span>{measured}</span>"
    content += _bar(entry.measured, entry.published, full)
    if table.intervals and entry.interval:
        content += f" <small>{show_interval(entry.interval)}</small>"
    if entry.published is not None:
        number = table.remark_number(entry)
        mark = f"<sup>{number}</sup>" if number else ""
        content += f" <small>{show_published(entry.published, quantity)}{mark}</small>"
    if entry.difference is not None:
        content += f" <small><i>{show_difference(entry.difference, quantity)}</i></small>"
    return _cell((name for name, present in states.items() if present), _details(entry), content)


def _full_bar(row: Row) -> float:
    """The value that fills a bar: 100 %, or the row's largest number of seconds or epochs."""
    if row.entries[0].cell.quantity == "accuracy":
        return 100
    pairs = [(entry.measured or 0, entry.published or 0) for entry in row.entries]
    return max(max(pair) for pair in pairs) or 1


def _bar(measured: float | None, published: float | None, full: float) -> str:
    """A bar as long as the measured number, with a tick at the published one."""
    parts = []
    if measured is not None:
        parts.append(f'<i style="width:{100 * measured / full:.1f}%"></i>')
    if published is not None:
        parts.append(f'<u style="left:{100 * published / full:.1f}%"></u>')
    return f'<span class="bar" aria-hidden="true">{"".join(parts)}</span>' if parts else ""


def _details(entry: Entry) -> str:
    """What a pointer resting on the cell shows."""
    quantity = entry.cell.quantity
    parts = ["not measured"]
    if entry.measured is not None:
        parts = [f"measured {show_measured(entry.measured, quantity)}{UNITS[quantity]}"]
    if entry.interval:
        parts.append(f"95 % interval {show_interval(entry.interval)}")
    if entry.n:
        parts.append(f"n = {entry.n}")
    if entry.published is not None:
        parts.append(f"paper {show_published(entry.published, quantity)}{UNITS[quantity]}")
    if entry.difference is not None:
        parts.append(f"difference {show_difference(entry.difference, quantity)}")
    return "; ".join(parts)
