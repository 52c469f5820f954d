"""``diagnose`` from the model's name to terminal, file and page; ``explain`` for every code."""

import subprocess
import sys

import pytest
import torch
from documents import read_document, read_rows
from torch import nn
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.diagnosis.codes import explanations
from robustbench_pcl.pipeline.diagnosing import Diagnose
from robustbench_pcl.store.diagnoses import CODES, Diagnosis
from robustbench_pcl.store.records import read_record

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, images):
        logits = self.linear(images.flatten(1))
        return logits + torch.randn_like(logits)
"""
SIZES = "--images 12 --device cpu"


@pytest.fixture(scope="module")
def home(tiny_home, tmp_path_factory):
    """Where this file's commands work, with small trained models."""
    folder = tmp_path_factory.mktemp("diagnosing")
    (folder / "checkpoints").mkdir()
    for path in (tiny_home / "checkpoints").glob("*.safetensors"):
        (folder / "checkpoints" / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def model(home):
    """The file of a small trained model."""
    (path,) = (home / "checkpoints").glob("digits-softmax-*")
    return path


@pytest.fixture(autouse=True)
def at_home(home, monkeypatch):
    monkeypatch.setenv("PCLBENCH_HOME", str(home))


def run(words):
    result = CliRunner().invoke(app, words.split(), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def diagnosis(home, model):
    """What was printed as JSON."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCLBENCH_HOME", str(home))
        printed = read_document(run(f"diagnose {model} {SIZES} --format json").stdout, "diagnoses")
        (fields,) = printed["diagnoses"]
        assert {row["diagnosis"] for row in printed["rows"]} == {fields["diagnosis"]}
        path = home / "results" / "diagnoses" / f"{fields['diagnosis']}.json"
        return read_record(path, Diagnosis)


@pytest.fixture
def nothing_is_made(diagnosis, monkeypatch):
    monkeypatch.setattr(Diagnose, "compute", None)


def test_the_stored_diagnosis_is_printed(diagnosis):
    assert (diagnosis.n, diagnosis.label, diagnosis.data.dataset) == (12, "PGD, eps 0.1", "digits")


def test_the_terminal_shows_verdict_numbers_and_checks(model, diagnosis, nothing_is_made):
    text = run(f"diagnose {model} {SIZES}").stdout
    assert text.startswith(f"{diagnosis.code} {diagnosis.verdict}: softmax on Digits, demo scale")
    assert all(check.code in text for check in diagnosis.checks)
    assert f"pclbench explain {diagnosis.code}" in text
    assert max(map(len, text.splitlines())) <= 80


def test_files_are_a_picture_and_a_page(model, tmp_path, nothing_is_made):
    files = [tmp_path / name for name in ("a.svg", "a.png", "a.html")]
    run(f"diagnose {model} {SIZES} " + " ".join(f"-o {file}" for file in files))
    starts = [file.read_bytes()[:15] for file in files]
    assert starts[0].startswith(b"<svg")
    assert starts[1].startswith(b"\x89PNG")
    assert starts[2] == b"<!DOCTYPE html>"


def test_the_report_has_the_code_beside_the_number(model, diagnosis, nothing_is_made):
    (clean, attacked) = read_rows(
        run(f"attack {model} {SIZES} --format json").stdout, "measurements"
    )
    assert clean["verdict"] is None
    assert (attacked["verdict"], attacked["diagnosis"]) == (diagnosis.code, diagnosis.id)
    content = read_document(run("report --model softmax --format json").stdout, "models")
    (row,) = [row for row in content["rows"] if row["id"] == attacked["id"]]
    assert all(row[name] in (attacked.get(name), None) for name in attacked if name in row)
    assert [each["diagnosis"] for each in content["diagnoses"]] == [diagnosis.id]
    assert diagnosis.code in run("report --page -o -").stdout


def test_each_budget_attack_and_seed_is_a_diagnosis_of_its_own(model, tmp_path):
    words = f"diagnose {model} {SIZES} --eps 0.1 --eps 0.2 --dry-run --format json"
    tasks = [
        row["task"] for row in read_rows(run(words).stdout, "plan") if "train" not in row["task"]
    ]
    assert tasks == [f"diagnosis of softmax under PGD, eps 0.{eps}, digits" for eps in (1, 2)]
    refused = CliRunner().invoke(app, f"{words} -o {tmp_path / 'a.svg'}".split())
    assert refused.exit_code == 2
    assert "A picture shows one diagnosis, and these are 2." in refused.stderr


def test_a_model_of_ones_own_is_inspected_and_diagnosed(tmp_path, monkeypatch):
    """One that rolls dice, of which nothing but that can be said."""
    (tmp_path / "net.py").write_text(NET)
    torch.manual_seed(0)
    layer = nn.Linear(64, 10)
    torch.save(
        {f"linear.{name}": value for name, value in layer.state_dict().items()}, tmp_path / "net.pt"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PCLBENCH_HOME", "home")
    words = f"diagnose net.py:Net --weights net.pt --dataset digits --scale demo {SIZES}"
    result = run(f"{words} --format json")
    assert "net-net, before it is attacked:" in result.stderr
    (found,) = read_document(result.stdout, "diagnoses")["diagnoses"]
    assert (found["target"], found["verdict"]) == ("net-net", "PCL105")
    assert run("diagnose net-net --format json " + SIZES).stdout == result.stdout


MISTAKES = {
    "diagnose softmax --attack cw": "has no budget",
    "diagnose softmax -o picture.bmp": "picture.bmp has no known ending",
    "diagnose softmax --source unheard-of": "unheard-of",
    "explain PCL999": "no code called 'PCL999'",
    "explain saturation": "no code called 'saturation'",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_two_lines(words):
    options = "" if words.startswith("explain") else " --dataset digits --scale demo --device cpu"
    result = CliRunner().invoke(app, f"{words}{options}".split())
    assert result.exit_code == 2
    cause, cure = result.stderr.splitlines()
    assert MISTAKES[words] in cause
    assert cure.startswith("  ")


@pytest.mark.parametrize("code", explanations())
def test_every_code_is_explained_within_80_columns(code):
    text = run(f"explain {code}").stdout
    found = explanations()[code]
    assert text.splitlines()[0] == f"{code} {found.name}"
    assert " ".join(found.meaning.split()) in " ".join(text.split())
    assert text.count("\n- ") == sum(map(len, (found.evidence, found.cures, found.literature)))
    assert max(map(len, text.splitlines())) <= 80


def test_a_code_may_be_in_small_letters_or_as_tables_show_it_or_a_verdicts_name():
    for verdict, code in CODES.items():
        wanted = run(f"explain {code}").stdout
        assert run(f"explain {code.lower()}").stdout == wanted
        assert run(f"explain {code.removeprefix('PCL')}").stdout == wanted
        assert CliRunner().invoke(app, ["explain", verdict]).stdout == wanted


def test_an_explanation_is_a_row_for_programs():
    (row,) = read_rows(run("explain PCL103 --format json").stdout, "explanation")
    assert row == explanations()["PCL103"].content()


def test_without_a_code_all_are_listed():
    assert [row["code"] for row in read_rows(run("explain --format json").stdout, "codes")] == [
        *explanations()
    ]


def test_explaining_imports_no_torch():
    program = (
        "import sys; from robustbench_pcl.cli.app import app\n"
        "try: app(['explain', 'PCL103'])\n"
        "except SystemExit: assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
