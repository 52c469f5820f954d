"""``pclbench report``."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest
import typer
from fabricated import make_answer, make_training
from typer.testing import CliRunner

from robustbench_pcl.cli.delivering import TableFormat
from robustbench_pcl.cli.report import report
from robustbench_pcl.errors import UserError
from robustbench_pcl.report.formats.render import FORMATS
from robustbench_pcl.specs.cell import Cell
from robustbench_pcl.store.home import Home
from robustbench_pcl.store.measurements import save_measurement, save_training


@pytest.fixture
def home(tmp_path):
    results = Home(tmp_path).results
    save_measurement(results, make_answer(Cell(dataset="cifar10", target="ours"), 87.6))
    save_training(results, make_training())
    return tmp_path


def test_a_table_is_printed(home, capsys):
    report(table=3, home=home)
    out = capsys.readouterr().out
    assert out.startswith("Table 3. ")
    assert "87.6" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("form", TableFormat)
def test_a_table_is_written_whole(home, tmp_path, capsys, form):
    path = tmp_path / "tables" / f"table.{form.value}"
    report(table=3, form=form, output=path, home=home)
    assert "87.6" in path.read_text(encoding="utf-8")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Wrote" in captured.err
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_options_name_every_format():
    assert [form.value for form in TableFormat] == list(FORMATS)


def test_the_page_is_written(home, tmp_path):
    path = tmp_path / "page.html"
    report(page=True, output=path, home=home)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert 'id="table-3"' in text
    assert 'id="table-13"' not in text  # nothing of it is measured
    report(page=True, table=13, output=path, home=home)
    assert 'id="table-13"' in path.read_text(encoding="utf-8")


def test_the_overview_lists_tables_and_commands(home, capsys):
    report(home=home)
    out = capsys.readouterr().out
    assert "CIFAR-10  1 of 44   pclbench run --table 3 --dataset cifar10 --scale quick" in out
    assert "Table 12. " in out
    report(home=home, form=TableFormat.json)
    rows = json.loads(capsys.readouterr().out)
    report(home=home, form=TableFormat.csv)
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == len(rows)
    third = [row for row in rows if (row["kind"], row["number"]) == ("table", 3)]
    assert [row["measured"] for row in third] == [0, 1, 0, 0, 0]
    seventh = [row for row in rows if (row["kind"], row["number"]) == ("figure", 7)]
    assert "pclbench run --figure 7 --dataset mnist" in [row["measure_with"] for row in seventh]


def test_an_empty_home_shows_the_paper(tmp_path, capsys):
    report(table=11, home=tmp_path)
    assert "67.71" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"table": 99}, "no table 99"),
        ({"table": 3, "dataset": ["cifar11"]}, "no data set called 'cifar11'"),
        ({"table": 3, "scale": "papre"}, "no scale called 'papre'.*paper"),
        ({"form": TableFormat.latex}, "no table to write"),
        ({"table": 1, "dataset": ["cifar10"]}, "Table 1 describes the code.*Leave --dataset"),
        ({"table": 2, "seed": 0}, "Table 2 describes the code"),
        ({"figure": 7, "page": True}, "figure is written by itself"),
        ({"figure": 2}, "no figure 2"),
    ],
)
def test_mistakes_are_raised_for_the_command_line_to_print(home, options, complaint):
    with pytest.raises(UserError, match=complaint):
        report(home=home, **options)
    with pytest.raises(UserError, match="no table to write"):
        report(home=home, output=home / "overview.txt")


def test_options_reach_the_function(home, monkeypatch):
    monkeypatch.setenv("PCLBENCH_HOME", str(home))
    app = typer.Typer()
    app.command()(report)
    words = "--table 3 --dataset cifar10 --dataset svhn --format json --scale quick --seed 0"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 0
    content = json.loads(result.stdout)
    assert [section["dataset"] for section in content["sections"]] == ["cifar10", "svhn"]
    assert content["cells"][11]["measured"] == 87.6


@pytest.mark.parametrize(
    "options",
    ["table=3", "table=9, interval=True, form='csv'", "figure=7", "page=True, table=3", ""],
)
def test_what_is_stored_is_reported_without_torch(home, options):
    program = (
        "import sys; from pathlib import Path; from robustbench_pcl.cli.report import report; "
        f"report(home=Path({str(home)!r}), {options}); "
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_a_figure_is_printed_or_written_as_its_name_says(home, tmp_path, capsys):
    report(figure=7, dataset=["cifar10"], home=home)
    captured = capsys.readouterr()
    assert captured.out.startswith("<svg")
    assert "Figure 7. " in captured.err
    svg, png = tmp_path / "figure.svg", tmp_path / "figure.png"
    report(figure=7, dataset=["cifar10"], home=home, output=svg)
    report(figure=7, dataset=["cifar10"], home=home, output=png)
    assert svg.read_text(encoding="utf-8") == captured.out
    assert png.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match=r"cannot be written as figure\.jpg.*\.svg or \.png"):
        report(figure=7, home=home, output=tmp_path / "figure.jpg")
