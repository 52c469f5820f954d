"""A table in HTML: readable as it is, and with bars under the page's style sheet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from robustbench_pcl.report.formatting import MISSING, listed, show_measured, show_published
from robustbench_pcl.report.model import Entry, ReportSection, ReportTable, Row
from robustbench_pcl.report.worst_case import WorstCase

LEGEND = (
    "Large: measured, <b>bold</b> if best of the recipes compared. Small: the paper's number, "
    "a tick on the bar."
)
UNITS = {"accuracy": " %", "seconds_per_epoch": " s", "epochs": " epochs"}


def render_html(table: ReportTable) -> str:
    """A ``<section>`` with one HTML table a data set, footnotes and commands."""
    parts = [
        f'<section class="report-table" id="table-{table.number}">',
        f"<h2>{escape(table.heading)}</h2>",
        f'<p class="caption">{escape(table.caption)} {LEGEND}</p>',
        *(part for section in table.sections for part in _section(table, section)),
    ]
    if table.remarks:
        items = "".join(f"<li>{escape(remark)}</li>" for remark in table.remarks)
        parts.append(f'<ol class="remarks">{items}</ol>')
    if table.commands:
        commands = escape("\n".join(table.commands))
        parts.append(f"<p>Missing cells are measured by</p>\n<pre><code>{commands}</code></pre>")
    return "\n".join([*parts, "</section>"]) + "\n"


def _section(table: ReportTable, section: ReportSection) -> Iterator[str]:
    worst = any(row.worst_case for row in section.rows)
    yield f'<h3 id="table-{table.number}-{escape(section.dataset)}">{escape(section.heading)}</h3>'
    yield '<div class="scroll" tabindex="0"><table>'
    yield f"<thead>{''.join(_head(table, worst))}</thead>"
    yield "<tbody>"
    for row in section.rows:
        yield _row(table, row, worst)
    yield "</tbody></table></div>"
    if section.footnotes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in section.footnotes)
        yield f'<ul class="notes">{notes}</ul>'


def _head(table: ReportTable, worst: bool) -> Iterator[str]:
    if any(name for name, _ in table.column_groups):
        cells = "".join(
            f'<th colspan="{span}" scope="colgroup">{escape(name)}</th>'
            if name
            else f'<td colspan="{span}"></td>'
            for name, span in table.column_groups
        )
        yield f"<tr><td></td>{cells}{'<td></td>' if worst else ''}</tr>"
    labels = [column.label for column in table.columns] + ["Worst case"] * worst
    cells = "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)
    yield f"<tr><td></td>{cells}</tr>"


def _row(table: ReportTable, row: Row, worst: bool) -> str:
    cells = [_entry(table, entry, _full_bar(row, entry)) for entry in row.entries]
    if worst:
        cells.append(_worst_case(row.worst_case))
    return f'<tr><th scope="row">{escape(row.heading.label)}</th>{"".join(cells)}</tr>'


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
    }
    measured = show_measured(entry.measured, quantity)
    content = f"<b>{measured}</b>" if entry.best else f"<span>{measured}</span>"
    if entry.published is not None:
        number = table.remark_number(entry)
        mark = f"<sup>{number}</sup>" if number else ""
        content += f" <small>{show_published(entry.published, quantity)}{mark}</small>"
    content += _bar(entry.measured, entry.published, full)
    return _cell((name for name, present in states.items() if present), _details(entry), content)


def _worst_case(case: WorstCase | None) -> str:
    if case is None:
        return _cell(("worst", "missing"), "no white-box attack is stored", MISSING)
    title = f"an image counts only if it withstands {listed(case.attacks)}; n = {case.n}"
    content = f"<span>{show_measured(case.accuracy)}</span>{_bar(case.accuracy, None, 100)}"
    return _cell(("worst",), title, content)


def _full_bar(row: Row, entry: Entry) -> float:
    """The value that fills a bar: 100 %, or the row's largest number of seconds or epochs."""
    if entry.cell.quantity == "accuracy":
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
        low, high = entry.interval
        parts.append(f"95 % interval {low:.1f} to {high:.1f}")
    if entry.n:
        parts.append(f"n = {entry.n}")
    if entry.published is not None:
        parts.append(f"paper {show_published(entry.published, quantity)}{UNITS[quantity]}")
    return "; ".join(parts)
