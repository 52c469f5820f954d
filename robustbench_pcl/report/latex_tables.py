"""The paper's tables for LaTeX: what stands in which of them, and what is cited."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.references import PAPER, Family, keys_of
from robustbench_pcl.paper.tables import published
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.recipes.load import load_recipe
from robustbench_pcl.report.described import DescribedTable, attack_name
from robustbench_pcl.report.entries import Entry, Row
from robustbench_pcl.report.formatting import (
    short_code,
    show_difference,
    show_measured,
    show_published,
    span,
)
from robustbench_pcl.report.latex import Grid, Line
from robustbench_pcl.report.latex_text import Verbatim, escape_latex
from robustbench_pcl.report.table import Section, Table
from robustbench_pcl.report.text import show_spread, significance
from robustbench_pcl.report.worst_case import TITLES

LABEL = "tab:pclbench"
SMALL, PRINTED = r"\scriptsize", r"\scriptsize\itshape"
"""The type of what belongs to a measured number, and of what the paper prints."""


def slug(*words: object) -> str:
    """Words as a part of a label: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", "-".join(map(str, words)).lower()).strip("-")


def citation(keys: Iterable[str]) -> Verbatim:
    """Publications cited behind a word; nothing for none."""
    listed = ",".join(dict.fromkeys(keys))
    return Verbatim(rf"~\cite{{{listed}}}" if listed else "")


def table_grids(table: Table, *, interval: bool) -> Iterator[Grid]:
    """A table for each data set and each group of columns, such as white-box and black-box.

    Args:
        table: of the paper.
        interval: with each measured number's 95 % interval.
    """
    for section in table.sections:
        remarks = tuple(dict.fromkeys(e.remark for e in section.entries if e.remark))
        first = ""
        for group, places in _parts(table):
            label = _label(table, section, group)
            notes = list(_notes(table, section, remarks, interval=interval))
            if first:
                notes = [Verbatim(rf"Notes: see Table~\ref{{{first}}}.")]
            first = first or label
            columns = [table.columns[place] for place in places]
            yield Grid(
                caption=_caption(table, section, group),
                label=label,
                heads=("", *(column.label for column in columns)),
                groups=("", *(column.group for column in columns)),
                rows=tuple(
                    tuple(_lines(table, row, places, remarks, interval=interval))
                    for row in section.rows
                ),
                notes=tuple(notes),
            )


def _parts(table: Table) -> list[tuple[str, list[int]]]:
    """The places of columns that stand in one table, by their group; ungrouped ones come first."""
    parts: list[tuple[str, list[int]]] = []
    start: list[int] = []
    for group, members in groupby(range(len(table.columns)), lambda at: table.columns[at].group):
        if group:
            parts.append((group, [*start, *members]))
            start = []
        else:
            start += members
    return [*parts, *[("", start)] * bool(start)]


def _label(table: Table, section: Section, group: str) -> str:
    """Unique by table, data set, part, scale (if not the paper's) and seeds (if asked for)."""
    asked = table.asked
    groups = {column.group for column in published(table.number).columns} - {""}
    part = [slug(group)] if len(groups) > 1 else []
    if asked.columns:
        part = [slug(column.name) for column in table.columns if column.group in ("", group)]
    scale = [section.scale] if section.scale not in (None, "paper") else []
    seeds = [f"seed-{slug(*asked.seeds)}"] * bool(asked.seeds)
    return f"{LABEL}-{slug(table.number, section.dataset, *part, *scale, *seeds)}"


def _caption(table: Table, section: Section, group: str) -> Verbatim:
    """Title, data set, budgets, scale, n, and which part it is."""
    counts = [entry.n for entry in section.entries if entry.n]
    dataset = escape_latex(section.title) + citation(keys_of("datasets", section.dataset))
    words = section.heading.removeprefix(section.title)
    words += f", n = {span(counts)}" if counts else ""
    part = f"; {group.lower()}" if len(_parts(table)) > 1 else ""
    return Verbatim(f"{escape_latex(table.title)}: {dataset}{escape_latex(words + part)}")


def _notes(
    table: Table, section: Section, remarks: Sequence[str], *, interval: bool
) -> Iterator[str]:
    """How the numbers are read, what a reader has to know of them, and where things come from."""
    yield f"{table.caption} {_legend(table, interval=interval)}"
    yield from section.footnotes
    for number, remark in enumerate(remarks, 1):
        yield Verbatim(rf"\textsuperscript{{{number}}}{escape_latex(remark)}")
    sources = "; ".join(_sources(table, section))
    if sources:
        yield Verbatim(f"{sources[0].upper()}{sources[1:]}.")


def _legend(table: Table, *, interval: bool) -> str:
    """What the lines of a row are."""
    lines = [f"mean of {len(table.seeds)} seeds" if table.seeds else "measured"]
    lines += ["the code of its verdict (101 stands for PCL101)"] * table.has_verdicts
    lines += ["its standard deviation (±)"] * bool(table.seeds)
    lines += ["its 95 % interval"] * interval
    said = f"Line by line: {', '.join(lines)}"
    if table.has_published:
        said += "; in italics, the published number and the difference to it"
    return f"{said}. Bold: {significance(table)}."


def _sources(table: Table, section: Section) -> Iterator[str]:
    """What the section rests on, each with the publication that it comes from."""
    entries = [e for e in section.entries if not e.is_summary or e.measured is not None]
    attacks = dict.fromkeys(entry.cell.attack.name for entry in entries if entry.cell.attack)
    names = dict.fromkeys(
        name for entry in entries for name in (entry.cell.target, entry.cell.source) if name
    )
    recipes = [found for name in names for found in _recipe(name, section)]
    losses = dict.fromkeys(str(recipe.loss["name"]) for recipe in recipes)
    defenses = dict.fromkeys(str(recipe.defense["name"]) for recipe in recipes)
    models = dict.fromkeys(recipe.model for recipe in recipes)
    if table.has_published:
        yield f"Published numbers{citation([PAPER])}"
    labels = {name: TITLES.get(name) or attack_name(name) for name in attacks}
    families: tuple[tuple[str, Family, dict[str, str]], ...] = (
        ("attacks", "attacks", labels),
        ("losses", "losses", {name: name for name in losses}),
        ("defences", "defenses", {name: name for name in defenses}),
        ("networks", "models", {name: name for name in models}),
    )
    for title, family, words in families:
        cited = [
            f"{escape_latex(word)}{citation(keys)}"
            for name, word in words.items()
            if (keys := keys_of(family, name))
        ]
        if cited:
            yield f"{title}: {', '.join(cited)}"


def _recipe(name: str, section: Section) -> list[Recipe]:
    """The recipe of a name; none for somebody's own model."""
    try:
        return [load_recipe(name, section.dataset, section.scale or "paper")]
    except UserError:
        return []


def _lines(
    table: Table, row: Row, places: Sequence[int], remarks: Sequence[str], *, interval: bool
) -> Iterator[Line]:
    """Measured, what belongs to it, and in italics the paper's number and the difference."""
    entries = [row.entries[place] for place in places]
    words = [[e.words] if row.heading.target else e.words.split() for e in entries]
    firsts = [each[0] if each else "" for each in words]
    yield Line((row.heading.name, *map(partial(_measured, table), entries, firsts)))
    published: list[str] = [_published(entry, remarks) for entry in entries]
    if all(entry.published is None for entry in entries):
        published = []
    further: list[tuple[str, str, Sequence[str]]] = [
        ("", "", [" ".join(each[1:]) for each in words]),
        ("verdict", SMALL, [short_code(entry.verdict) for entry in entries]),
        ("±", SMALL, [show_spread(entry) for entry in entries]),
        *(
            (name, SMALL, [show_measured(e.interval[end]) if e.interval else "" for e in entries])
            for end, name in enumerate(("from", "to"))
            if interval
        ),
        ("published", PRINTED, published),
        (
            "difference",
            PRINTED,
            [show_difference(entry.difference, entry.cell.quantity) for entry in entries],
        ),
    ]
    for name, style, cells in further:
        if any(cells):
            yield Line((Verbatim(rf"\quad {escape_latex(name)}") if name else "", *cells), style)


def _measured(table: Table, entry: Entry, words: str) -> Verbatim:
    """A measured number, bold where it is the best, underlined on a matrix's diagonal."""
    text = escape_latex(words or show_measured(entry.measured, entry.cell.quantity))
    text = rf"\textbf{{{text}}}" if entry.best else text
    text += _hung(escape_latex(entry.mark)) if entry.mark else ""
    underlined = table.is_matrix and entry.cell.white_box and not entry.is_summary
    return Verbatim(rf"\underline{{{text}}}" if underlined else text)


def _published(entry: Entry, remarks: Sequence[str]) -> Verbatim:
    """The paper's number, with the number of the remark on it; "" where there is none."""
    if entry.words:
        return Verbatim("")
    number = escape_latex(show_published(entry.published, entry.cell.quantity))
    if entry.remark:
        number += _hung(remarks.index(entry.remark) + 1)
    return Verbatim(number)


def _hung(mark: object) -> str:
    """A raised mark that takes no room, so that digits stay beneath each other."""
    return rf"\rlap{{\textsuperscript{{{mark}}}}}"


def words_grid(table: DescribedTable) -> Grid:
    """A table of words; the attacks of Table 2 are cited."""
    names = {attack_name(name): name for name in ATTACKS}
    rows = [
        Line((Verbatim(escape_latex(row[0]) + _cited(names.get(row[0]))), *row[1:]))
        for row in table.rows
    ]
    return Grid(
        caption=table.title,
        label=f"{LABEL}-{table.number}",
        heads=table.columns,
        rows=tuple((row,) for row in rows),
        notes=(table.caption, *table.footnotes),
        words=True,
    )


def _cited(attack: str | None) -> Verbatim:
    """Where an attack comes from; nothing for None."""
    return citation(keys_of("attacks", attack) if attack else ())
