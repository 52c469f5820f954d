"""``pclbench report``: the tables, figures and the page of what is stored, without torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from fabricated import make_answer, make_measurement, make_model, make_training
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.paper.tables import Cell
from robustbench_pcl.recipes.load import load_attack
from robustbench_pcl.report.render import FORMATS
from robustbench_pcl.store.records import Paths, save_measurement, save_training


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_measurement(Paths(home), make_answer(Cell(dataset="cifar10", target="ours"), 87.6))
    save_training(Paths(home), make_training())
    return home


def report(home, words):
    """What a command prints, and what it says to the person."""
    command = ["report", *words.split(), "--home", str(home)]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_is_printed_and_written_whole_in_every_format(home, tmp_path, form):
    printed, _ = report(home, f"--table 3 --format {form}")
    assert "87.6" in printed
    assert "\x1b" not in printed
    path = tmp_path / "tables" / f"table.{form}"
    out, said = report(home, f"--table 3 --format {form} --output {path}")
    assert (out, "Wrote" in said) == ("", True)
    assert path.read_text(encoding="utf-8") == printed
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_options_reach_the_table(home):
    words = "--table 3 --dataset cifar10 --dataset svhn --format json --scale quick --seed 0"
    content = json.loads(report(home, words)[0])
    assert [section["dataset"] for section in content["sections"]] == ["cifar10", "svhn"]
    assert content["rows"][11]["measured"] == 87.6


def test_seeds_and_models_reach_the_table_and_the_page(home, tmp_path):
    paths = Paths(tmp_path)
    for seed, correct in enumerate((60, 70)):
        save_measurement(paths, make_measurement(make_model(seed=seed), correct=correct, n=100))
    save_measurement(paths, make_measurement(make_model("mine"), correct=50, n=100))
    words = "--table 3 --seed 0 --seed 1 --model mine --format json"
    cells = json.loads(report(tmp_path, words)[0])["rows"]
    known = {cell["target"]: cell for cell in cells if cell["measured"] is not None}
    assert (known["ours"]["measured"], known["ours"]["seeds"]) == (65, [0, 1])
    assert (known["mine"]["measured"], known["mine"]["seeds"]) == (50, [0])
    assert ">mine<" in report(tmp_path, "--page -o - --table 3 --model mine")[0]
    assert ">mine<" not in report(tmp_path, "--page -o - --table 3")[0]


def test_the_page_has_what_is_measured_or_asked_for(home, tmp_path):
    path = tmp_path / "page.html"
    for words, other in (("--page", True), ("--page --table 13", False)):
        report(home, f"{words} --output {path}")
        text = path.read_text(encoding="utf-8")
        assert text.startswith("<!DOCTYPE html>")
        assert ('<section class="report-table" id="table-3"' in text) == other
        assert "pclbench run --table 13" in text  # nothing of it is measured


def test_the_overview_lists_tables_and_commands(home):
    out, _ = report(home, "")
    assert "CIFAR-10  1 of 44   pclbench run --table 3 --dataset cifar10 --scale quick" in out
    rows = json.loads(report(home, "--format json")[0])["rows"]
    third = [row for row in rows if (row["kind"], row["number"]) == ("table", 3)]
    assert [row["measured_count"] for row in third] == [0, 1, 0, 0, 0]


def test_a_folder_without_results_shows_the_paper(tmp_path):
    assert "67.71" in report(tmp_path, "--table 11")[0]


def test_a_figure_is_printed_or_written_as_its_name_says(home, tmp_path):
    printed, said = report(home, "--figure 7 --dataset cifar10")
    assert printed.startswith("<svg")
    assert "Figure 7. " in said
    svg, png = tmp_path / "figure.svg", tmp_path / "figure.png"
    report(home, f"--figure 7 --dataset cifar10 --output {svg}")
    report(home, f"--figure 7 --dataset cifar10 --output {png}")
    assert svg.read_text(encoding="utf-8").strip() == printed.strip()
    assert png.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("form", FORMATS)
def test_all_that_is_stored_of_a_model_is_printed_and_written(home, tmp_path, form):
    printed, _ = report(home, f"--model ours --format {form}")
    assert "87.6" in printed
    path = tmp_path / f"ours.{form}"
    out, said = report(home, f"--model ours --format {form} --output {path}")
    assert (out, "Wrote" in said) == ("", True)
    assert path.read_text(encoding="utf-8") == printed


def test_a_model_is_drawn_over_eps(home, tmp_path):
    attack = load_attack("pgd", "cifar10", "quick", {"eps": "2/255"}).dump()
    model = make_model("ours")
    save_measurement(Paths(tmp_path), make_measurement(model, model, attack))
    path = tmp_path / "figure.png"
    printed, said = report(tmp_path, "--model ours --figure eps")
    assert printed.startswith("<svg")
    assert "ours: accuracy against the attack's budget. White-box" in said
    report(tmp_path, f"--model ours --figure eps --output {path}")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "words", ["--table 3", "--model ours --format json", "--table 9 --interval --format csv", ""]
)
def test_what_is_stored_is_reported_without_torch(home, words):
    program = (
        "import sys; from typer.testing import CliRunner; from robustbench_pcl.cli.app import app; "
        f"result = CliRunner().invoke(app, {['report', *words.split(), '--home', str(home)]!r}); "
        "assert result.exit_code == 0; assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
