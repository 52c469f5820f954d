"""One HTML page that needs nothing else: tables, figures, environment, how to reproduce."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources
from typing import NamedTuple

from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.paper.independent import independent_results
from robustbench_pcl.report.formats.html import described_html, render_html
from robustbench_pcl.report.formatting import percent, show_budget
from robustbench_pcl.report.tables.claims import with_worst_cases
from robustbench_pcl.report.tables.described import DescribedTable
from robustbench_pcl.report.tables.model import ReportTable

TITLE = "Prototype Conformity Loss: measured beside published"
LEAD = (
    "What pclbench measured, beside what Deeply Supervised Discriminative Learning for "
    "Adversarial Defense (Mustafa et al.) prints."
)


class Figure(NamedTuple):
    """A figure for the page.

    Attributes:
        title: its heading.
        svg: one ``<svg>`` element.
        caption: what it shows, in a sentence.
        command: measures what it shows; "" if a table's command does.
    """

    title: str
    svg: str
    caption: str
    command: str = ""


def render_page(
    tables: Sequence[ReportTable],
    figures: Sequence[Figure],
    described: Sequence[DescribedTable] = (),
) -> str:
    """The page as HTML, with style and drawings inside it.

    Args:
        tables: from top to bottom.
        figures: shown before the tables.
        described: shown after them.
    """
    style = (resources.files(__package__) / "page.css").read_text(encoding="utf-8")
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(TITLE)}</title>",
        f"<style>\n{style}</style>",
        "</head>",
        "<body>",
        "<header>",
        f"<h1>{escape(TITLE)}</h1>",
        f'<p class="lead">{escape(LEAD)}</p>',
        *_facts(tables),
        "</header>",
        *_navigation(figures, [*tables, *described]),
        "<main>",
        *_independent(tables),
        *_figures(figures),
        *(render_html(with_worst_cases(table)) for table in tables),
        *map(described_html, described),
        *_environments(tables),
        *_reproduction(tables, figures),
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _facts(tables: Sequence[ReportTable]) -> Iterator[str]:
    sections = [section for table in tables for section in table.sections]
    measured = sum(section.measured for section in sections)
    facts = {
        "cells measured": f"{measured} of {measured + sum(s.missing for s in sections)}",
        "data sets": ", ".join(dict.fromkeys(section.title for section in sections)),
        "scale": ", ".join(dict.fromkeys(s.scale for s in sections if s.scale)) or "none yet",
    }
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in facts.items()
    )
    yield f'<dl class="facts">{items}</dl>'


def _navigation(
    figures: Sequence[Figure], tables: Sequence[ReportTable | DescribedTable]
) -> Iterator[str]:
    """Links in a column; where there is no room, in a line, without the figures' and spans."""
    links = ['<a href="#figures">Figures</a>'] if figures else []
    links += [
        f'<a class="figure" href="#figure-{number}">{escape(figure.title)}</a>'
        for number, figure in enumerate(figures, 1)
    ]
    links += [
        f'<a href="#table-{table.number}">Table {table.number}'
        f"<span>. {escape(table.title)}</span></a>"
        for table in tables
    ]
    links.append('<a href="#reproduce">Reproduce</a>')
    yield f'<nav aria-label="Contents">{"".join(links)}</nav>'


def _independent(tables: Sequence[ReportTable]) -> Iterator[str]:
    """What others measured on the authors' own models, before anything else."""
    shown = {section.dataset for table in tables for section in table.sections}
    for result in independent_results():
        if result.dataset in shown:
            numbers = {
                "claimed by the authors": result.claimed,
                f"left by {result.attack}": result.measured,
            }
            yield '<aside class="card"><h2>Does the claim hold?</h2>'
            yield (
                f'<p class="caption">Robust accuracy of the authors\' own {escape(result.model)} '
                f"on {escape(dataset_spec(result.dataset).title)}, "
                f"{escape(show_budget(result.eps, None))}: {escape(result.reference)}.</p>"
            )
            for words, value in numbers.items():
                yield f'<p class="claim"><b>{percent(str(value))}</b> {escape(words)}'
                yield f'<span class="bar"><i style="width:{value:.2f}%"></i></span></p>'
            yield "</aside>"


def _figures(figures: Sequence[Figure]) -> Iterator[str]:
    yield '<div class="figures" id="figures">'
    for number, figure in enumerate(figures, 1):
        yield f'<figure class="card" id="figure-{number}">'
        yield f"<h2>{escape(figure.title)}</h2>"
        yield f'<div class="scroll" tabindex="0">{_with_own_ids(figure.svg, f"f{number}-")}</div>'
        yield f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    yield "</div>"


def _with_own_ids(svg: str, prefix: str) -> str:
    """The drawing with ids, and references to them, that no other drawing on the page has."""
    return re.sub(r'(\bid="|\bhref="#|url\(#)', rf"\g<1>{prefix}", svg)


def _environments(tables: Sequence[ReportTable]) -> Iterator[str]:
    found = {
        environment.model_dump_json(): environment.content()
        for table in tables
        for section in table.sections
        for environment in section.environments
    }
    if not found:
        return
    rows = list(found.values())
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in rows[0])
    yield '<section class="card"><h2>Measured on</h2><div class="scroll"><table class="plain">'
    yield f"<thead><tr>{head}</tr></thead><tbody>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row.values()) + "</tr>"
    yield "</tbody></table></div></section>"


def _reproduction(tables: Sequence[ReportTable], figures: Sequence[Figure]) -> Iterator[str]:
    commands = [
        f"pclbench run --table {table.number} --dataset {section.dataset}"
        + (f" --scale {section.scale}" if section.scale else "")
        for table in tables
        for section in table.sections
    ]
    commands += [figure.command for figure in figures if figure.command]
    shown = escape("\n".join([*commands, "pclbench report --page --output report.html"]))
    yield '<section class="card" id="reproduce"><h2>How to reproduce</h2>'
    yield '<p class="caption">What is stored already is not measured again.</p>'
    yield f"<pre><code>{shown}</code></pre></section>"
