"""``certify`` from the model's name to terminal, file and page, and into the report."""

from __future__ import annotations

import json

import pytest
import torch
from attack_toys import nearest_mean
from documents import read_document
from typer.testing import CliRunner

from robustbench_pcl import Workspace
from robustbench_pcl.cli.app import app
from robustbench_pcl.pipeline.certifying import Certify
from robustbench_pcl.store.certificates import Certificate
from robustbench_pcl.store.records import read_record

NET = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))

class Sine(Net):
    def forward(self, images):
        return super().forward(torch.sin(images))
"""
SIZES = "--images 10 --device cpu"


@pytest.fixture(scope="module")
def home(tiny_home, tmp_path_factory):
    """Where this file's commands work, with small trained models and somebody's own."""
    folder = tmp_path_factory.mktemp("certifying")
    (folder / "checkpoints").mkdir()
    for path in (tiny_home / "checkpoints").glob("*.safetensors"):
        (folder / "checkpoints" / path.name).symlink_to(path)
    (folder / "nets.py").write_text(NET)
    net = nearest_mean(Workspace(device="cpu").dataset("digits").train)
    torch.save(net.state_dict(), folder / "net.pt")
    return folder


@pytest.fixture(scope="module")
def model(home):
    """The file of a small trained model."""
    (path,) = (home / "checkpoints").glob("digits-softmax-*")
    return path


@pytest.fixture(autouse=True)
def at_home(home, monkeypatch):
    monkeypatch.setenv("PCLBENCH_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "80")


def run(words, code=0):
    result = CliRunner().invoke(app, words.split(), catch_exceptions=False)
    assert result.exit_code == code, result.stderr
    return result


@pytest.fixture(scope="module")
def found(home, model):
    """What was printed as JSON."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCLBENCH_HOME", str(home))
        return read_document(run(f"certify {model} {SIZES} --format json").stdout, "certificates")[
            "certificates"
        ][0]


@pytest.fixture
def nothing_is_made(found, monkeypatch):
    monkeypatch.setattr(Certify, "compute", None)


def test_json_is_what_is_stored(home, found):
    (file,) = (home / "results" / "certificates").glob(f"{found['certificate']}.json")
    certificate = read_record(file, Certificate)
    assert found["certified_radii"] == list(certificate.certified)
    assert (found["n"], found["largest_eps"]) == (10, 0.2)


def test_the_terminal_begins_with_the_sentence(model, found, nothing_is_made):
    out = run(f"certify {model} {SIZES}").stdout
    assert out.startswith("At eps 0.1, between 0.0 and ")
    assert "points are not known." in out.replace("\n", " ")
    assert "too loose" in out
    assert max(map(len, out.splitlines())) <= 80


def test_several_budgets_have_a_sentence_each(model, nothing_is_made):
    out = run(f"certify {model} {SIZES} --eps 0.05 --eps 0.1").stdout
    assert "At eps 0.05, " in out
    assert "\nAt eps 0.1, " in out


def test_a_larger_budget_is_looked_for_as_far(model):
    certified = read_document(
        run(f"certify {model} {SIZES} --eps 0.15 --format json").stdout, "certificates"
    )
    assert certified["certificates"][0]["largest_eps"] == 0.3
    assert 0.15 in [row["eps"] for row in certified["rows"]]


def test_it_is_drawn_and_written_as_a_page(model, home, nothing_is_made):
    names = [home / f"ours{suffix}" for suffix in (".svg", ".png", ".html")]
    run(f"certify {model} {SIZES} " + " ".join(f"-o {name}" for name in names))
    svg, png, page = names
    assert svg.read_text().startswith("<svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "not known" in page.read_text()


def test_report_shows_it_and_draws_it(model, home, nothing_is_made):
    said = run("report --model softmax --dataset digits").stdout
    assert "At eps 0.1, between 0.0 and " in said
    drawn = home / "report.svg"
    run(f"report --figure certified --model softmax -o {drawn}")
    assert "softmax" in drawn.read_text()
    assert "Digits" in drawn.read_text()


def test_somebodys_own_model_is_certified(home):
    words = f"{home}/nets.py:Net --weights {home}/net.pt --dataset digits --name net {SIZES}"
    result = run(f"certify {words} --format json")
    document = json.loads(result.stdout)
    (found,) = document["certificates"]
    assert "before it is attacked" in result.stderr
    assert found["reason"] == ""
    assert document["rows"][0]["not_known"] == 0  # linear: both ends meet
    assert max(found["certified_radii"]) > 0


def test_what_cannot_be_bounded_is_not_certified_and_says_why(home):
    words = f"{home}/nets.py:Sine --weights {home}/net.pt --dataset digits --name sine {SIZES}"
    out = run(f"certify {words}").stdout
    assert "Certified 0\N{NO-BREAK SPACE}%: nothing can be certified: " in out
    assert "sin" in out


WRONG = {
    "a picture": ("-o ours.bmp", ".svg, .png, .pdf"),
    "a budget of 8": ("--eps 8", "8/255"),
    "no budget": ("--eps 0", "With eps 0, no pixel may change"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_makes_no_sense_is_refused_before_anything_is_made(wrong, model, nothing_is_made):
    words, said = WRONG[wrong]
    result = run(f"certify {model} {SIZES} {words}", code=2)
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 2
    assert result.stdout == ""


def test_a_figure_of_what_is_certified_names_a_model(home):
    assert "Name a model" in run("report --figure certified", code=2).stderr
    missing = run("report --figure certified --model ours", code=2).stderr
    assert "pclbench certify ours" in missing
