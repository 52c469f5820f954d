"""Every number in its place, in every format."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from fabricated import make_answer, make_evidence
from reading import filled, parsed, shown

from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.tables import Heading, published, published_numbers
from robustbench_pcl.report.formatting import MINUS, MISSING
from robustbench_pcl.report.latex_text import escape_latex
from robustbench_pcl.report.render import FORMATS, render, table
from robustbench_pcl.report.table import report_table

SHAPES = [3, 5, 13]
"""Recipes in rows, recipes in columns, a matrix."""


def digits_of(cells):
    return [re.sub(r"[*¹²³⁴⁵⁶]", "", cell) for cell in cells]


@pytest.mark.parametrize("number", [8, 11, 13])
def test_text(number):
    table = filled(number, skip=(1, 5))
    lines = render(table, "text").splitlines()
    papers = [at for at, line in enumerate(lines) if line.startswith("  paper")]
    rows = [(row, texts) for row, texts in zip(table.sections[0].rows, shown(table), strict=True)]
    with_paper = [pair for pair in rows if any(entry.published for entry in pair[0].entries)]
    assert len(papers) == len(with_paper) >= len(rows) - 1  # but for what was not run
    for at, (row, (measured, printed, differences)) in zip(papers, with_paper, strict=True):
        label = row.heading.name
        assert lines[at - 1].startswith(label)
        assert digits_of(lines[at - 1].removeprefix(label).split()) == " ".join(measured).split()
        assert digits_of(lines[at].split()[1:]) == [paper for paper in printed if paper]
        assert lines[at + 1].split()[1:] == [d for d in differences if d]


def test_text_in_blocks_keeps_groups_of_columns_together():
    lines = render(filled(3), "text").splitlines()
    heads = [line for line in lines if "─" in line]
    assert ["White-box" in head for head in heads] == [True, False]
    assert ["Black-box" in head for head in heads] == [False, True]


@pytest.mark.parametrize("number", SHAPES)
def test_markdown(number):
    table = filled(number)
    lines = [line for line in render(table, "md").splitlines() if line.startswith("|")]
    rows = [
        [re.sub(r"[*¹²³⁴⁵⁶]|</?u>", "", cell).strip() for cell in line.split("|")[2:-1]]
        for line in lines[2:]
    ]
    expected = [
        [
            f"{measured} ({paper}, {difference})" if difference else measured
            for measured, paper, difference in zip(*numbers, strict=True)
        ]
        for numbers in shown(table)
    ]
    assert rows == expected
    assert len(set(map(len, lines))) == 1  # it is a table before it is rendered, too


@pytest.mark.parametrize("number", SHAPES)
def test_latex(number):
    table = filled(number)
    text = render(table, "latex")
    bodies = [part.split(r"\bottomrule")[0] for part in text.split("\\midrule\n")[1:]]
    for body, places in zip(bodies, parts_of(table), strict=True):
        plain = [
            re.sub(r"\\(text\w+\{[\d*]\}|[a-z]{3,}(\[[^]]*\])?)|[{}]", "", line)
            .replace("$-$", MINUS)
            .replace("--", MISSING)
            for line in body.splitlines()
            if "tabularnewline" in line
        ]
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)&", line)[1:]] for line in plain]
        lines = [
            (line is numbers[0], [line[place] for place in places])
            for numbers in shown(table)
            for line in numbers
        ]
        expected = [line for first, line in lines if first or set(line) - {"", MISSING}]
        if not table.sections[0].rows[0].heading.target:
            words = zip(*(cell.split() for cell in expected[-1]), strict=True)
            expected[-1:] = map(list, words)  # PGD only
        assert rows == expected
    assert text.count("{") == text.count("}")


def parts_of(table):
    """The places of the columns that stand in each of the tables in LaTeX: groups by themselves."""
    groups = [column.group for column in table.columns]
    split = groups.index("Black-box") if "Black-box" in groups else len(groups)
    return [list(range(split)), *[list(range(split, len(groups)))] * (split < len(groups))]


@pytest.mark.parametrize("number", SHAPES)
def test_html(number):
    table = filled(number)
    rows = [row for row in parsed(render(table, "html")).rows if any(row)]
    assert rows == [
        [" ".join(filter(None, cell)) for cell in zip(*_without_missing(numbers), strict=True)]
        for numbers in shown(table)
    ]


def _without_missing(numbers):
    measured, papers, differences = numbers
    return measured, [paper.replace(MISSING, "") for paper in papers], differences


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize("number", SHAPES)
def test_tidy_formats(number, form):
    table = filled(number, skip=(1, 5))
    text = render(table, form)
    cells = json.loads(text)["rows"] if form == "json" else list(csv.DictReader(io.StringIO(text)))
    rows = table.sections[0].rows
    entries = [(row, entry) for row in rows for entry in row.entries]
    assert len(cells) == len(entries)
    for cell, (row, entry) in zip(cells, entries, strict=True):
        assert cell["row"] == row.heading.name
        assert cell["column"] == entry.column.label
        assert cell["target"] == entry.cell.target
        assert (cell["source"] or None) == entry.cell.source
        for name, value in (
            ("published", entry.published),
            ("measured", entry.measured),
            ("difference", entry.difference),
        ):
            assert cell[name] in (None, "") if value is None else float(cell[name]) == value


def test_json_survives_a_round_trip_and_holds_what_a_program_needs():
    text = render(filled(skip=(1,)), "json")
    content = json.loads(text)
    assert json.dumps(content, indent=2) + "\n" == text
    (section,) = content["sections"]
    assert section["command"] == "pclbench run --table 3 --dataset cifar10 --scale quick"
    assert section["missing_count"] == 1
    assert section["environments"][0]["device"] == "CPU"
    cases = {case["target"]: case for case in section["worst_cases"]}
    assert set(cases) == {row.target for row in published(3).rows}
    assert cases["ours"]["attacks"] == ["BIM", "FGSM", "MIM", "PGD"]
    assert (cases["ours"]["eps"], cases["ours"]["seed"], cases["ours"]["n"]) == (0.03, 0, 10_000)
    clean, bim, worst = (content["rows"][place] for place in (0, 2, 6))
    assert (clean["attack"], clean["eps"], clean["n"]) == ("Clean", None, 10_000)
    assert (bim["attack"], bim["eps"], bim["group"]) == ("BIM, eps 0.03", 0.03, "White-box")
    assert (bim["parameters"]["name"], bim["norm"], len(bim["measurements"])) == ("bim", "linf", 1)
    assert (worst["attack"], worst["eps"], worst["column"]) == ("Worst case", 0.03, "Worst case")
    assert clean["low"] < clean["measured"] < clean["high"]
    assert clean["difference"] == clean["measured"] - clean["published"]


@pytest.mark.parametrize("number", published_numbers())
@pytest.mark.parametrize("measured", [False, True])
def test_text_fits_a_terminal(number, measured):
    datasets = [*published(number).datasets, "digits"]
    answers = [
        make_answer(position.cell, 100.0 if index % 2 else 99.97)
        for dataset in datasets
        for index, position in enumerate(published(number).positions(dataset))
    ]
    table = report_table(number, make_evidence(answers if measured else []), datasets)
    lines = render(table, "text").splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)


def test_a_matrix_too_wide_for_the_terminal_is_cut_into_blocks():
    wide = published(13).extended([f"recipe-number-{index}" for index in range(8)])
    answers = [make_answer(position.cell, 50) for position in wide.positions("cifar10")]
    text = render(report_table(13, make_evidence(answers)), "text")
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("Target") > 1
    assert all(f"recipe-number-{index}" in text for index in range(8))


def test_missing_everything_is_shown_in_every_format():
    table = report_table(3, make_evidence([]))
    for form in FORMATS:
        text = render(table, form)
        assert "67.7" in text
        if form != "csv":
            assert "pclbench run --table 3 --dataset mnist" in text


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"no format called 'tex'.*latex"):
        render(filled(), "tex")


def test_a_table_prints_itself_in_a_terminal_and_in_a_notebook(tmp_path):
    shown = table(11, tmp_path)
    assert str(shown) == render(shown.table, "text")
    assert shown._repr_html_() == render(shown.table, "html")
    assert shown.frame["published"].tolist()[0] == 90.8
    assert "FGSM" in str(table(2))


def test_what_a_label_says_is_not_markup():
    """Templates escape what they are filled with, so that a name cannot change a page."""
    hostile = "<b> & | * # _ x"
    whole = filled(11)
    table = replace(whole, columns=(Heading(label=hostile), *whole.columns[1:]))
    for form, escaped in (
        ("html", "&lt;b&gt; &amp; | * # _ x"),
        ("md", r"\<b> & \| \* # \_ x"),
        ("latex", r"$<$b$>$ \& $|$ * \# \_ x"),
    ):
        text = render(table, form)
        assert escaped in text or set(escaped.split()) <= set(text.split())  # in lines
        assert hostile not in text


def test_latex_escapes_what_it_would_interpret():
    assert escape_latex("C&W 95 % #1 a_b {c} $") == r"C\&W 95 \% \#1 a\_b \{c\} \$"
    assert escape_latex("~ ^ \\ ± –") == (
        r"\textasciitilde{} \textasciicircum{} \textbackslash{} $\pm$ --"
    )
    assert escape_latex("L_PC → 2 − 1") == r"$\mathcal{L}_{\mathrm{PC}}$ $\rightarrow$ 2 $-$ 1"
    for line in render(filled(), "latex").splitlines()[1:]:
        outside = re.sub(r"\$[^$]*\$", "", line)
        assert line.startswith("%") or not re.search(r"(?<!\\)[#_$^]", outside)


@pytest.mark.parametrize("form", ["text", "md", "latex", "html"])
def test_the_papers_numbers_are_explained_only_where_there_are_any(form):
    assert re.search("difference to (it|the paper)", render(filled(3), form).replace("\n", " "))
    assert "difference to" not in render(filled(3, "digits"), form).replace("\n", " ")
