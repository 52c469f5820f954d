"""A table in LaTeX, in the style of the booktabs package."""

from __future__ import annotations

import re
from collections.abc import Iterator

from robustbench_pcl.report.formatting import show_measured, show_published
from robustbench_pcl.report.model import Entry, ReportTable, Row

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "\N{NO-BREAK SPACE}": "~",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_SPECIAL = re.compile("|".join(map(re.escape, _ESCAPES)))


def escaped(text: str) -> str:
    """Text whose characters mean themselves in LaTeX."""
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], text)


def render_latex(table: ReportTable) -> str:
    """One ``table*`` environment with all data sets; needs the booktabs package.

    Measured numbers stand above the paper's, which are small; the best measured are bold.
    """
    columns = len(table.columns)
    lines = [
        "% \\usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escaped(table.title)}. {escaped(table.caption)} Upper line: measured; lower "
        r"line: the paper's; bold: best of the recipes compared.}",
        rf"\label{{tab:pcl-{table.number}}}",
        rf"\begin{{tabular}}{{l{'r' * columns}}}",
        r"\toprule",
        *_head(table),
    ]
    for section in table.sections:
        lines += [
            r"\midrule",
            rf"\multicolumn{{{columns + 1}}}{{c}}{{{escaped(section.heading)}}} \\",
            r"\midrule",
            *(line for row in section.rows for line in _row(table, row)),
        ]
    lines += [r"\bottomrule", r"\end{tabular}", *_notes(table), r"\end{table*}"]
    return "\n".join(lines) + "\n"


def _head(table: ReportTable) -> Iterator[str]:
    if any(name for name, _ in table.column_groups):
        cells, rules, first = [""], [], 2
        for name, span in table.column_groups:
            cells.append(rf"\multicolumn{{{span}}}{{c}}{{{escaped(name)}}}")
            if name:
                rules.append(rf"\cmidrule(lr){{{first}-{first + span - 1}}}")
            first += span
        yield _line(cells)
        yield " ".join(rules)
    yield _line(["", *(escaped(column.label) for column in table.columns)])


def _row(table: ReportTable, row: Row) -> Iterator[str]:
    yield _line([escaped(row.heading.label), *(_measured(table, entry) for entry in row.entries)])
    if any(entry.published is not None for entry in row.entries):
        yield _line([r"\quad\scriptsize paper", *(_published(table, e) for e in row.entries)])


def _measured(table: ReportTable, entry: Entry) -> str:
    shown = escaped(show_measured(entry.measured, entry.cell.quantity))
    if entry.best:
        shown = rf"\textbf{{{shown}}}"
    if table.is_matrix and entry.white_box:
        shown = rf"\underline{{{shown}}}"
    return shown


def _published(table: ReportTable, entry: Entry) -> str:
    shown = escaped(show_published(entry.published, entry.cell.quantity))
    number = table.remark_number(entry)
    mark = rf"\textsuperscript{{{number}}}" if number else ""
    return rf"\scriptsize {shown}{mark}"


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _notes(table: ReportTable) -> Iterator[str]:
    notes = [
        f"{escaped(section.title)}: {escaped(' '.join(section.footnotes))}"
        for section in table.sections
        if section.footnotes
    ]
    notes += [
        rf"\textsuperscript{{{number}}}{escaped(remark)}"
        for number, remark in enumerate(table.remarks, 1)
    ]
    for note in notes:
        yield rf"\par\footnotesize {note}"
    for command in table.commands:
        yield f"% missing cells: {command}"
