"""``attack --from`` and ``export``: what they print, what they write, what they refuse."""

import shutil

import numpy as np
import pandas as pd
import pytest
from documents import read_rows
from typer.testing import CliRunner

from robustbench_pcl import Workspace
from robustbench_pcl.cli.app import app
from robustbench_pcl.store.records import Paths

N = 15


@pytest.fixture
def home(tiny_home, tmp_path, monkeypatch):
    """A workspace with small trained models and, beside it, images from elsewhere."""
    shutil.copytree(tiny_home / "checkpoints", tmp_path / "checkpoints")
    monkeypatch.setenv("PCLBENCH_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    clean = Workspace(tmp_path, device="cpu").dataset("digits").test.images[:N] / 255
    np.savez(tmp_path / "theirs.npz", adv=np.clip(clean + 0.1, 0, 1))
    np.savez(tmp_path / "last.npz", adv=clean[5:], indices=np.arange(5, N))
    return tmp_path


@pytest.fixture
def softmax(home):
    """The checkpoint file of a small model."""
    (path,) = (home / "checkpoints").glob("*-softmax-*")
    return path


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.stderr
    return result


def attack(softmax, *words, code=0):
    return run("attack", softmax, "--device", "cpu", *words, code=code)


def test_images_of_a_file_are_a_row_beside_the_clean_ones(home, softmax):
    found = attack(softmax, "--from", home / "theirs.npz")
    assert "elsewhere" in found.stdout
    assert "imported, eps 0.1" in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= 80
    rows = read_rows(
        attack(softmax, "--from", home / "theirs.npz", "--format", "json").stdout, "measurements"
    )
    assert [row["attack"] for row in rows] == ["Clean", "imported, eps 0.1, theirs.npz"]
    assert [row["n"] for row in rows] == [N, N]
    assert not any(row["white_box"] for row in rows)


def test_other_images_stand_beside_no_clean_ones(home, softmax):
    (row,) = read_rows(
        attack(softmax, "--from", home / "last.npz", "--format", "json").stdout, "measurements"
    )
    assert row["n"] == N - 5
    assert "10 chosen test images" in row["provenance"]


WRONG = {
    "another attack": (["--attack", "fgsm"], "--attack"),
    "a loss": (["--loss", "margin"], "--loss"),
    "a parameter": (["--set", "steps=3"], "--set"),
    "starts": (["--restarts", "2"], "--restarts"),
    "a class": (["--target-class", "likeliest"], "--target-class"),
    "a number": (["--images", "3"], "--images"),
    "exact": (["--exact"], "--exact"),
    "a plan": (["--dry-run"], "--dry-run"),
    "budgets": (["--eps", "0.1", "--eps", "0.2"], "one budget"),
    "no budget": (["--norm", "l2"], "no usual L2 budget"),
    "small budget": (["--eps", "1/255"], "farther from the clean ones"),
    "wrong budget": (["--eps", "8"], "larger than the whole pixel range"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_means_nothing_for_a_file_is_refused(wrong, home, softmax):
    words, named = WRONG[wrong]
    result = attack(softmax, "--from", home / "theirs.npz", *words, code=2)
    assert named in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_a_file_is_refused_before_a_model_is_trained(home):
    words = ("--dataset", "digits", "--scale", "demo", "--from", home / "missing.npz")
    result = run("attack", "madry", *words, "--device", "cpu", code=2)
    assert "no file" in result.stderr


def test_strongest_ends_with_the_worst_case_over_all_that_is_stored(home, softmax):
    attack(softmax, "--from", home / "theirs.npz")
    words = ("--attack", "strongest", "--set", "budget=quick", "--images", N)
    found = attack(softmax, *words)
    assert max(map(len, found.stdout.splitlines())) <= 80
    assert "all stored" in found.stdout
    *rows, case = read_rows(attack(softmax, *words, "--format", "json").stdout, "measurements")
    assert case["attack"] == "Worst case of 2 sets, eps 0.1"
    assert case["n"] == N
    assert case["accuracy"] <= min(row["accuracy"] for row in rows)
    assert case["low"] < case["accuracy"] < case["high"] or case["accuracy"] in (0, 100)


def test_a_set_and_all_of_a_model_can_be_written(home, softmax):
    attack(softmax, "--from", home / "theirs.npz")
    (stored,) = Paths(home).adversarial_sets.glob("*.h5")
    result = run("export", stored.stem, "-o", home / "set.csv")
    assert f"{N} rows" in result.stderr
    assert len(pd.read_csv(home / "set.csv")) == N
    run("export", "--target", "softmax", "--dataset", "digits", "-o", home / "all.jsonl")
    assert len((home / "all.jsonl").read_text().splitlines()) == 2 * N


@pytest.mark.parametrize(
    "words", [[], ["0123456789ab", "--target", "softmax"], ["0123456789ab", "--dataset", "digits"]]
)
def test_one_thing_is_exported(words, home):
    result = run("export", *words, "-o", home / "out.csv", code=2)
    assert "One thing" in result.stderr
