"""``--columns`` shows a part of a table in every format; ``--bib`` writes what its LaTeX cites."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from fabricated import make_answers, make_evidence
from reading import filled, notes
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.references import cited, references
from robustbench_pcl.report.described import described_table
from robustbench_pcl.report.render import FORMATS, render, table
from robustbench_pcl.report.table import report_table
from robustbench_pcl.store.records import Measurement, Paths, save_measurement

ANSWERS = make_answers(3, ["cifar10"], n=100)
EVIDENCE = make_evidence(ANSWERS)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    for record in ANSWERS[:6]:
        assert isinstance(record, Measurement)
        save_measurement(Paths(folder), record)
    return folder


def names(shown):
    return [column.name for column in shown.columns]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["White-box PGD"], ["White-box PGD"]),
        (["PGD"], ["White-box PGD", "Black-box PGD"]),
        (["black-box cw", "clean"], ["Clean", "Black-box C&W"]),
        (["Black-box"], [f"Black-box {name}" for name in ("FGSM", "BIM", "C&W", "MIM", "PGD")]),
        (["Worst case"], ["White-box Worst case"]),
    ],
)
def test_columns_are_found_by_name_label_and_group(asked, found):
    assert names(report_table(3, EVIDENCE, ["cifar10"], columns=asked)) == found


@pytest.mark.parametrize("asked", ["Yu", "Yu [45]*", "yu-fgsm"])
def test_columns_that_are_recipes_are_found_by_recipe_and_without_references(asked):
    assert names(filled_columns(5, asked)) == ["Yu [45]*"]


def filled_columns(number, *columns):
    evidence = make_evidence(make_answers(number, ["cifar10"], n=100))
    return report_table(number, evidence, ["cifar10"], columns=columns)


def test_the_numbers_are_those_of_the_whole_table_and_notes_are_about_what_is_shown():
    whole = report_table(3, EVIDENCE, ["cifar10"])
    part = report_table(3, EVIDENCE, ["cifar10"], columns=["Clean", "Black-box PGD"])
    for row, own in zip(whole.sections[0].rows, part.sections[0].rows, strict=True):
        kept = [e for e in row.entries if e.column.name in ("Clean", "Black-box PGD")]
        assert list(own.entries) == kept
    assert "C&W with 100 steps" in notes(whole)
    assert "C&W with 100 steps" not in notes(part)
    assert "Worst case" not in notes(part)
    assert part.remarks == ()
    assert (part.sections[0].measured, part.sections[0].missing) == (8, 0)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_columns_and_no_others(form):
    text = render(report_table(3, EVIDENCE, ["cifar10"], columns=["Clean", "Black-box MIM"]), form)
    assert "MIM" in text
    if form == "csv":
        assert {row["column"] for row in csv.DictReader(io.StringIO(text))} == {"Clean", "MIM"}
    elif form == "json":
        assert {row["column"] for row in json.loads(text)["rows"]} == {"Clean", "MIM"}
    else:
        assert "FGSM  " not in text.split("Softmax")[0]
        assert not re.search("White-box|C&|BIM", text)


def test_tables_of_words_have_columns_too():
    assert described_table(2).only(["norm", "Attack"]).columns == ("Attack", "Norm")
    assert table(2, columns=["Norm"]).table.rows[0] == ("ℓ∞",)
    with pytest.raises(UserError, match=r"no column called 'Nrom'.*Did you mean Norm"):
        described_table(2).only(["Nrom"])


def run(home, *words):
    result = CliRunner().invoke(app, ["report", *words, "--home", str(home)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--table", "3", "--columns", "PDG"], "Did you mean PGD"),
        (["--table", "3", "--columns", "Auto"], "There is no column called 'Auto'"),
        (["--columns", "PGD"], "--table 3 --columns PGD"),
        (["--page", "--table", "3", "--columns", "PGD"], "Columns are a table's"),
        (["--bundle", "x", "--columns", "PGD"], "Leave --columns out"),
        (["--bib", "--figure", "7"], "Leave --figure out"),
        (["--bib", "--format", "json"], "-o refs.bib"),
        (["--bib", "-o", "refs.tex"], "-o refs.bib"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_a_cure(home, words, cause):
    code, out, said = run(home, *words)
    assert (code, out) == (2, "")
    assert cause in said


def test_columns_reach_pictures(home, tmp_path):
    pictures = [tmp_path / "part.svg", tmp_path / "whole.svg"]
    assert run(home, "--table", "3", "--columns", "Clean", "-o", str(pictures[0]))[0] == 0
    assert run(home, "--table", "3", "-o", str(pictures[1]))[0] == 0
    part, whole = (path.read_text() for path in pictures)
    assert "Clean" in part
    assert "White-box" not in part
    assert "White-box" in whole


def test_the_bibliography_of_a_table_is_what_its_latex_cites(home, tmp_path):
    path = tmp_path / "refs.bib"
    assert run(home, "--bib", "--table", "3", "-o", str(path))[0] == 0
    latex = run(home, "--table", "3", "--format", "latex")[1]
    keys = re.findall(r"@\w+\{(\w+),", path.read_text())
    assert keys == sorted(cited(latex))
    assert {"mustafa2021", "madry2018", "krizhevsky2009"} <= set(keys)
    assert "zimmermann2022" not in keys


def test_the_bibliography_of_everything_has_all_publications(home):
    assert re.findall(r"@\w+\{(\w+),", run(home, "--bib")[1]) == sorted(references())
    of_words = run(home, "--bib", "--table", "2")[1]
    assert "@inproceedings{andriushchenko2020," in of_words


def test_a_headings_reference_is_a_citation():
    assert r"Yu" in render(filled(5), "latex")
    assert "[45]" not in render(filled(5), "latex")
    assert {"yu2018", "ross2018", "pang2019"} <= cited(render(filled(5), "latex"))
