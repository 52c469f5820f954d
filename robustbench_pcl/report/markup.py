"""Templates in Markdown, LaTeX and HTML, and how what fills them is escaped."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from robustbench_pcl.report.described import DescribedTable
from robustbench_pcl.report.entries import Entry, Row, Table
from robustbench_pcl.report.formatting import (
    MINUS,
    show_difference,
    show_interval,
    show_measured,
    show_published,
    superscript,
)
from robustbench_pcl.report.text import legend

UNITS = {"accuracy": " %", "seconds_per_epoch": " s", "epochs": " epochs"}
LONG = 40
"""LaTeX breaks entries of more characters into lines."""
_LATEX = {
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
_LATEX_SPECIAL = re.compile(r"\bL_(\w+)|" + "|".join(map(re.escape, _LATEX)))


class Verbatim(str):
    """Text that a template writes as it is."""

    __slots__ = ()


def filled_template(table: Table | DescribedTable, form: str, *, interval: bool) -> str:
    """The table by the template of that format: md, latex or html."""
    kind = "words" if isinstance(table, DescribedTable) else "table"
    suffix = "tex" if form == "latex" else form
    template = _ENVIRONMENTS[form].get_template(f"{kind}.{suffix}")
    return template.render(table=table, interval=interval).rstrip("\n") + "\n"


def escape_latex(text: object) -> str:
    """Text whose characters mean themselves in LaTeX; losses are written as the paper does."""
    if isinstance(text, Verbatim):
        return text
    return _LATEX_SPECIAL.sub(_meant, str(text))


def _meant(match: re.Match[str]) -> str:
    loss = match[1]
    return rf"$\mathcal{{L}}_{{\mathrm{{{loss}}}}}$" if loss else _LATEX[match[0]]


def escape_markdown(text: object) -> str:
    """Text whose characters mean themselves in Markdown and inside its tables."""
    if isinstance(text, Verbatim):
        return text
    return re.sub(r"([\\|*_<\[\]`])", r"\\\1", str(text))


def _losses(text: str) -> Markup:
    """Text as HTML; losses are written as the paper does, L with an index."""
    return Markup(re.sub(r"\bL_(\w+)", r"L<sub>\1</sub>", str(escape(text))))


def _classes(table: Table, entry: Entry) -> str:
    states = {
        "best": entry.best,
        "missing": entry.measured is None,
        "white-box": table.is_matrix and entry.cell.white_box,
        "worst": entry.is_worst_case,
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
    parts = ["not measured"]
    if entry.measured is not None:
        parts = [f"measured {_measured(entry)}{unit}"]
    if entry.interval:
        parts.append(f"95 % interval {show_interval(entry.interval)}")
    if entry.n:
        parts.append(f"n = {entry.n}")
    if entry.published is not None:
        parts.append(f"paper {_published(entry)}{unit}")
    if entry.difference is not None:
        parts.append(f"difference {_difference(entry)}")
    return "; ".join(parts)


def _measured(entry: Entry) -> str:
    return show_measured(entry.measured, entry.cell.quantity)


def _published(entry: Entry) -> str:
    return show_published(entry.published, entry.cell.quantity)


def _difference(entry: Entry) -> str:
    return show_difference(entry.difference, entry.cell.quantity)


def _rules(table: Table) -> list[tuple[int, int]]:
    """First and last column of each group that has a heading, counted as LaTeX does."""
    ends = accumulate((span for _, span in table.column_groups), initial=1)
    starts = zip(table.column_groups, ends, strict=False)
    return [(end + 1, end + span) for (name, span), end in starts if name]


def _alignment(table: DescribedTable) -> str:
    """LaTeX's columns; long entries stand in some that break lines."""
    columns = zip(table.columns, *table.rows, strict=True)
    widths = (max(map(len, column)) for column in columns)
    return "".join(r"p{.42\textwidth}" if width > LONG else "l" for width in widths)


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
        "show_interval": show_interval,
        "show_measured": show_measured,
        "superscript": superscript,
        "legend": legend,
        "classes": _classes,
        "details": _details,
        "full": _full,
        "rules": _rules,
        "alignment": _alignment,
    }
    environment.filters |= {"losses": _losses, "verbatim": Verbatim}
    return environment


_LATEX_SIGNS = {
    "block_start_string": "<%",
    "block_end_string": "%>",
    "variable_start_string": "<<",
    "variable_end_string": ">>",
    "comment_start_string": "<#",
    "comment_end_string": "#>",
}
"""Braces and per cent signs are LaTeX's own."""
_ENVIRONMENTS = {
    "html": _environment(),
    "md": _environment(escape_markdown),
    "latex": _environment(escape_latex, **_LATEX_SIGNS),
}
