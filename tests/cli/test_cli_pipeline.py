"""The whole way on digits: train, attack, transfer, ablate, run, report."""

import csv
import dataclasses
import io
import json
import sys
from pathlib import Path

import h5py
import pytest
from typer.testing import CliRunner

from robustbench_pcl.cli import app
from robustbench_pcl.paper.figures import FIGURES
from robustbench_pcl.paper.table import published_numbers
from robustbench_pcl.recipes.scales import SIZES
from robustbench_pcl.store.adversarial_sets import find_set
from robustbench_pcl.store.measurements import load_measurements, load_trainings
from robustbench_pcl.training.loop import Run

HERE = "--dataset digits --scale demo --images 25 --device cpu"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where this file's commands work, one after the other."""
    return tmp_path_factory.mktemp("pipeline")


def shrink(home, patch):
    """The demo's scale, smaller yet."""
    sizes = dataclasses.replace(SIZES["demo"], train_images=256, first=(6, 1), joint=(2, 1))
    patch.setitem(SIZES, "demo", sizes)
    patch.setenv("PCLBENCH_HOME", str(home))


@pytest.fixture(autouse=True)
def small(home, monkeypatch):
    shrink(home, monkeypatch)


def run(words):
    result = CliRunner().invoke(app, words.split(), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


def rows(words):
    return json.loads(run(f"{words} --format json").stdout)


@pytest.fixture
def nothing_trains(monkeypatch):
    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(Run, "execute", refuse)


def attacked(home, flag):
    with pytest.MonkeyPatch.context() as patch:
        shrink(home, patch)
        return rows(f"attack softmax {HERE} --attack fgsm --attack pgd {flag}")


@pytest.fixture(scope="module")
def whitebox(home):
    """What attack printed, and the files it left."""
    return attacked(home, "")


@pytest.fixture(scope="module")
def exact(home, whitebox):
    """The same without shortcuts: what tables and matrices can use."""
    return attacked(home, "--exact")


def test_train(home, whitebox):
    (row,) = rows("train digits --scale demo --device cpu")  # found: attack has trained it
    path = Path(row["checkpoint"])
    assert path.exists()
    assert path.parent == home / "checkpoints"
    assert row["id"] in path.name
    assert (row["recipe"], row["dataset"], row["scale"]) == ("softmax", "digits", "demo")
    trained = [record.recipe.name for record in load_trainings(home / "results")]
    assert trained == ["softmax"]
    assert run("train digits --scale demo --device cpu").stdout.split()[-1]


def test_attack(home, whitebox):
    clean, fgsm, pgd = whitebox
    assert [row["attack"] for row in whitebox] == [None, "fgsm", "pgd"]
    assert {row["n"] for row in whitebox} == {25}
    assert clean["accuracy"] > pgd["accuracy"]
    assert fgsm["accuracy"] >= pgd["accuracy"]
    for row in whitebox:
        assert row["accuracy"] == row["correct"] / row["n"]
        assert row["low"] <= row["accuracy"] <= row["high"]
    for row in (fgsm, pgd):
        assert 0 < row["largest_linf"] <= 0.1 + 1e-6  # the data set's own budget
        assert "eps=0.1" in row["parameters"].split()
        path = home / "results" / "adversarial_sets" / f"{row['adversarial_set']}.h5"
        with h5py.File(path, "r") as file:
            assert file["images"].shape == (25, 1, 8, 8)
            right = int((file["predictions"][:] == file["labels"][:]).sum())
        assert right == row["correct"]
    stored = {record.id for record in load_measurements(home / "results")}
    assert {row["measurement"] for row in whitebox} <= stored


def test_attack_again_makes_nothing(home, whitebox, nothing_trains):
    before = sorted(home.rglob("*"))
    assert rows(f"attack softmax {HERE} --attack fgsm --attack pgd") == whitebox
    assert sorted(home.rglob("*")) == before
    text = run(f"attack softmax {HERE} --attack fgsm --attack pgd").stdout
    assert "white-box" in text
    table = csv.DictReader(
        io.StringIO(run(f"attack softmax {HERE} --attack fgsm --format csv").stdout)
    )
    assert [row["attack"] for row in table] == ["", "fgsm"]


def test_attack_stops_an_image_where_it_fools_the_model(home, whitebox, exact):
    """Unless it is to be exact: then every image takes all steps of the plain model."""
    clean, *stopped = whitebox
    assert (clean["crafting"], clean["precision"]) == (None, None)
    assert {row["crafting"] for row in stopped} == {"until-fooled"}
    assert {(row["crafting"], row["precision"]) for row in exact[1:]} == {("exact", "float32")}
    assert exact[0] == clean
    assert len({row["adversarial_set"] for row in stopped + exact[1:]}) == 4
    for one, other, steps in zip(stopped, exact[1:], (1, 10), strict=True):
        assert one["mean_l2"] <= other["mean_l2"]
        first, second = (found(home, row) for row in (one, other))
        assert first.spec.crafting == one["crafting"]
        assert second.summary.backward_passes == 25 * steps
        assert first.summary.precision == one["precision"]
        # Those that the model has wrong to begin with are left as they are.
        with h5py.File(first.path, "r") as file:
            wrong = int((file["predictions"][:] != file["labels"][:]).sum())
        assert wrong == 25 - one["correct"] >= 25 - clean["correct"]


def found(home, row):
    return find_set(home / "results" / "adversarial_sets", row["adversarial_set"])


def test_matrices_and_suites_take_all_steps(home, whitebox, nothing_trains, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(
        'datasets = ["digits"]\ntargets = ["softmax"]\nscale = "demo"\n'
        '[[attack]]\nname = "bim"\neps = 0.07\nsteps = 3\n'
    )
    sizes = "--images 25 --device cpu"
    commands = (
        f"run --suite {path} {sizes}",
        f"transfer --source softmax --target softmax {HERE} --attack bim --eps 0.08 --set steps=3",
    )
    for command in commands:
        for flag, mode in (("", "fast"), (" --exact", "exact"), ("", "exact")):
            row = rows(command + flag)[-1]  # at last the exact set is there, and preferred
            assert row["attack"] == "bim"
            assert row["crafting"] == found(home, row).spec.crafting == mode
            probed = found(home, row).summary.backward_passes - 3 * 25
            assert (probed == 0) == (mode == "exact")


def test_attack_options_reach_the_attack(whitebox, nothing_trains):
    for words, expected in (
        ("--eps 8/255 --set steps=3", f"eps={8 / 255} steps=3"),
        ("--loss margin --set relative-step-size=0.5", "relative_step_size=0.5 loss=margin"),
        ("--attack cw --set steps=5", "c=10 steps=5"),
    ):
        _, row = rows(f"attack softmax {HERE} {words}")
        for word in expected.split():
            assert word in row["parameters"].split()


def test_a_checkpoint_by_its_file(home, whitebox, nothing_trains, tmp_path):
    (path,) = (home / "checkpoints").glob("*-softmax-*")
    words = f"attack {path} {HERE} --attack fgsm --home {tmp_path}"
    assert [row["correct"] for row in rows(words)] == [row["correct"] for row in whitebox[:2]]


def test_transfer_matrix(home, exact):
    words = f"transfer --source softmax --source ours --target softmax --target ours {HERE}"
    before = set((home / "results" / "adversarial_sets").iterdir())
    matrix = rows(words)
    assert [(row["source"], row["target"]) for row in matrix] == [
        ("softmax", "softmax"),
        ("softmax", "ours"),
        ("ours", "softmax"),
        ("ours", "ours"),
    ]
    assert matrix[0]["measurement"] == exact[2]["measurement"]  # the diagonal is white-box
    assert [row["crafting"] for row in matrix] == ["exact", "exact", "fast", "fast"]
    assert len({row["adversarial_set"] for row in matrix}) == 2
    after = set((home / "results" / "adversarial_sets").iterdir())
    assert {path.stem for path in after - before} == {matrix[2]["adversarial_set"]}
    text = run(words).stdout
    lines = [line.split() for line in text.splitlines() if "%" in line]
    for line, row in zip(lines, (matrix[:2], matrix[2:]), strict=True):
        assert line[0] == row[0]["source"]
        assert line[1:5:2] == [f"{100 * cell['accuracy']:.1f}" for cell in row]


def test_report_shows_what_was_measured(home, exact, nothing_trains):
    _, fgsm, pgd = exact  # clean accuracy is also known on more images, from train
    result = run("report --table 3 --dataset digits --scale demo --format json")
    table = json.loads(result.stdout)
    measured = [cell["measured"] for cell in table["cells"] if cell["measured"] is not None]
    for row in (fgsm, pgd):
        assert any(value == pytest.approx(100 * row["accuracy"]) for value in measured)
    text = run("report --table 3 --dataset digits --scale demo").stdout
    (line,) = (line for line in text.splitlines() if line.startswith("Softmax"))
    for row in (fgsm, pgd):
        assert f"{100 * row['accuracy']:.1f}" in line
    assert "n = 25" in text


def test_dry_run_makes_nothing(home, whitebox, nothing_trains, tmp_path):
    before = sorted(home.rglob("*"))
    plan = "run --table 3 --dataset digits --scale demo --images 25 --device cpu --dry-run"
    result = run(plan)
    assert sorted(home.rglob("*")) == before
    lines = {line.strip() for line in result.stdout.splitlines()}
    assert any(line.startswith("train softmax on digits") and "done" in line for line in lines)
    assert any(line.startswith("train ours-pgd on digits") and "about" in line for line in lines)
    assert "steps, about" in result.stderr
    elsewhere = run(f"{plan} --home {tmp_path / 'new'}")
    assert "done" not in elsewhere.stdout
    assert not (tmp_path / "new").exists()


def test_a_suite(home, exact, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(
        'datasets = ["digits"]\ntargets = ["softmax"]\nscale = "demo"\n'
        '[[attack]]\nname = "fgsm"\neps = 0.1\n'
    )
    dry = run(f"run --suite {path} --images 25 --device cpu --dry-run").stdout
    assert "about" not in dry  # attack has measured all of it
    found = rows(f"run --suite {path} --images 25 --device cpu")
    assert [row["measurement"] for row in found] == [row["measurement"] for row in exact[:2]]


def test_ablate(home, whitebox, monkeypatch):
    asked, benches = [], []
    module = sys.modules["robustbench_pcl.cli.run"]  # the package's name of it is the command

    def note(jobs, bench, *_):
        asked.extend(jobs)
        benches.append(bench)

    monkeypatch.setattr(module, "work", note)
    text = run("ablate digits --scale demo --images 25 --device cpu").stdout
    run("ablate digits --scale demo --images 25 --device cpu --exact")
    assert [bench.exact for bench in benches] == [False, True]
    names = {job.recipe.name for job in asked if hasattr(job, "recipe")}
    assert {"softmax", "ours-l1", "ours-l45", "ours"} <= names
    assert text.startswith("Table 11")


@pytest.mark.slow
def test_the_demo(tmp_path, monkeypatch):
    monkeypatch.undo()
    page = tmp_path / "page.html"
    result = run(f"demo --home {tmp_path} --output {page}")
    assert "Table 3" in result.stdout
    assert "digits" in page.read_text(encoding="utf-8").lower()
    assert run(f"report --table 3 --scale demo --home {tmp_path}").stdout.count("–") < 10


@pytest.mark.slow
def test_every_table_and_figure_of_the_paper_on_digits(tmp_path, monkeypatch):
    """In under 20 minutes on two cores: no cell is empty, and the page shows all of it."""
    monkeypatch.undo()
    page = tmp_path / "page.html"
    parts = [f"--table {number}" for number in published_numbers()]
    parts += [f"--figure {number}" for number in FIGURES]
    run(f"run {' '.join(parts)} --dataset digits --scale demo --home {tmp_path}")
    listed = json.loads(
        run(f"report --dataset digits --scale demo --format json --home {tmp_path}").stdout
    )
    measured = {(row["kind"], row["number"]): row for row in listed if row["data_set"]}
    assert {number for kind, number in measured if kind == "table"} == set(published_numbers())
    assert {number for kind, number in measured if kind == "figure"} == set(FIGURES)
    assert all(row["measured"] > 0 == row["missing"] for row in measured.values())
    run(f"report --page --dataset digits --scale demo --output {page} --home {tmp_path}")
    text = page.read_text(encoding="utf-8")
    for number in range(1, 14):
        assert f"Table {number}." in text
    for number in FIGURES:
        assert f"Figure {number}." in text
