"""A table in LaTeX, in the style of the booktabs package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from robustbench_pcl.report.formats.lines import Shown, legend, lines_of
from robustbench_pcl.report.formatting import MINUS
from robustbench_pcl.report.tables.described import DescribedTable
from robustbench_pcl.report.tables.model import ReportTable, Row

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    MINUS: "$-$",
    "→": r"$\rightarrow$",
    "∞": r"$\infty$",
    "ℓ": r"$\ell$",
    "α": r"$\alpha$",
    "ε": r"$\epsilon$",
    "κ": r"$\kappa$",
    "μ": r"$\mu$",
    "\N{NO-BREAK SPACE}": "~",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_SPECIAL = re.compile(r"\bL_(\w+)|" + "|".join(map(re.escape, _ESCAPES)))
LONG = 40
"""Entries of more characters are broken into lines."""


def escaped(text: str) -> str:
    """Text whose characters mean themselves in LaTeX; losses are written as the paper does."""
    return _SPECIAL.sub(_meant, text)


def _meant(match: re.Match[str]) -> str:
    loss = match[1]
    return rf"$\mathcal{{L}}_{{\mathrm{{{loss}}}}}$" if loss else _ESCAPES[match[0]]


def render_latex(table: ReportTable) -> str:
    """One ``table*`` environment with all data sets; needs the booktabs package.

    Measured numbers stand above the paper's and their difference, which are small; the best
    measured are bold.
    """
    width = len(table.columns) + 1
    body = list(_head(table))
    for section in table.sections:
        body += [
            r"\midrule",
            rf"\multicolumn{{{width}}}{{c}}{{{escaped(section.heading)}}} \\",
            r"\midrule",
            *(line for row in section.rows for line in _row(table, row)),
        ]
    caption = f"{table.caption} {legend(table, 'bold:')}"
    return _environment(table, caption, f"l{'r' * (width - 1)}", body, _notes(table))


def described_latex(table: DescribedTable) -> str:
    """A table of words, long entries in columns that break lines."""
    columns = zip(table.columns, *table.rows, strict=True)
    alignment = "".join(
        r"p{.42\textwidth}" if max(map(len, column)) > LONG else "l" for column in columns
    )
    body = [_line(map(escaped, row)) for row in (table.columns, *table.rows)]
    body.insert(1, r"\midrule")
    notes = [rf"\par\footnotesize {escaped(note)}" for note in table.footnotes]
    return _environment(table, table.caption, alignment, body, notes)


def _environment(
    table: ReportTable | DescribedTable,
    caption: str,
    alignment: str,
    body: Iterable[str],
    notes: Iterable[str],
) -> str:
    lines = [
        "% \\usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escaped(f'{table.title}. {caption}')}}}",
        rf"\label{{tab:pcl-{table.number}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *notes,
        r"\end{table*}",
    ]
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
    for line in lines_of(table, row):
        cells = map(_shown, line.cells)
        if line.label:
            yield _line([rf"\quad\scriptsize {line.label}", *(rf"\scriptsize {c}" for c in cells)])
        else:
            yield _line([escaped(row.heading.name), *cells])


def _shown(shown: Shown) -> str:
    text = escaped(shown.text)
    if shown.best:
        text = rf"\textbf{{{text}}}"
    if shown.white_box:
        text = rf"\underline{{{text}}}"
    return text + (rf"\textsuperscript{{{shown.remark}}}" if shown.remark else "")


def _line(cells: Iterable[str]) -> str:
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
