"""The whole way on digits: train, attack, transfer, ablate, run, report."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from typer.testing import CliRunner

from robustbench_pcl import Workspace, results
from robustbench_pcl.attacks.checks import PROBE
from robustbench_pcl.cli.app import app
from robustbench_pcl.paper.figures import FIGURES
from robustbench_pcl.paper.tables import published_numbers
from robustbench_pcl.pipeline.executors import Local
from robustbench_pcl.pipeline.tasks import Measure, Train
from robustbench_pcl.store.adversarial_sets import find_set
from robustbench_pcl.store.records import Paths

SIZES = "--scale demo --images 25 --device cpu"
HERE = f"--dataset digits {SIZES}"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where this file's commands work, one after the other."""
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(autouse=True)
def at_home(home, monkeypatch):
    monkeypatch.setenv("PCLBENCH_HOME", str(home))


def run(words):
    result = CliRunner().invoke(app, words.split(), catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result


def rows(words):
    return json.loads(run(f"{words} --format json").stdout)["rows"]


@pytest.fixture
def nothing_trains(monkeypatch):
    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(Train, "compute", refuse)


def attacked(home, flag):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCLBENCH_HOME", str(home))
        return rows(f"attack softmax {HERE} --attack fgsm --attack pgd {flag}")


@pytest.fixture(scope="module")
def whitebox(home):
    """What attack printed, and the files it left."""
    return attacked(home, "")


@pytest.fixture(scope="module")
def exact(home, whitebox):
    """The same without shortcuts."""
    return attacked(home, "--exact")


def stored(home, row):
    return find_set(Paths(home).adversarial_sets, row["adversarial_set"])


def checkpoint(home, name):
    (path,) = Paths(home).checkpoints.glob(f"*-{name}-demo-*")
    return path


def test_train_finds_what_attack_trained(home, whitebox, nothing_trains):
    words = "train digits --scale demo --device cpu"
    (row,) = rows(words)
    assert Path(row["file"]) == checkpoint(home, "softmax")
    assert row["checkpoint"] in row["file"]
    assert (row["target"], row["dataset"], row["scale"]) == ("softmax", "digits", "demo")
    assert row["checkpoint"] in run(words).stdout


def test_attack_measures_clean_and_robust_accuracy(home, whitebox):
    clean, fgsm, pgd = whitebox
    assert [row["attack"] for row in whitebox] == ["Clean", "FGSM, eps 0.1", "PGD, eps 0.1"]
    assert {row["n"] for row in whitebox} == {25}
    assert clean["accuracy"] > fgsm["accuracy"] >= pgd["accuracy"]
    for row in whitebox:
        assert row["accuracy"] == pytest.approx(100 * row["correct"] / row["n"])
        assert row["low"] <= row["accuracy"] <= row["high"]
    for row in (fgsm, pgd):
        assert 0 < row["largest_linf"] <= 0.1 + 1e-6  # the data set's own budget
        assert row["parameters"]["eps"] == 0.1
        with h5py.File(stored(home, row).path, "r") as file:
            assert file["images"].shape == (25, 1, 8, 8)
            right = int((file["predictions"][:] == file["labels"][:]).sum())
        assert right == row["correct"]
    assert {row["id"] for row in whitebox} <= set(results(home)["id"])


def test_attack_again_makes_nothing(home, whitebox, nothing_trains):
    before = sorted(home.rglob("*"))
    assert rows(f"attack softmax {HERE} --attack fgsm --attack pgd") == whitebox
    assert "white-box" in run(f"attack softmax {HERE} --attack fgsm --attack pgd").stdout
    assert sorted(home.rglob("*")) == before


def test_attack_stops_an_image_where_it_fools_the_model_unless_exact(home, whitebox, exact):
    clean, *stopped = whitebox
    assert {row["mode"] for row in stopped} == {"early-stop"}
    assert {(row["mode"], row["precision"]) for row in exact[1:]} == {("exact", "float32")}
    assert exact[0] == clean
    for one, other, steps in zip(stopped, exact[1:], (1, 10), strict=True):
        assert one["mean_l2"] <= other["mean_l2"]
        assert other["backward_passes"] == PROBE + 25 * steps  # a few say whether it can be judged


def test_a_checkpoint_knows_its_data_set_and_scale(home, whitebox, nothing_trains, tmp_path):
    words = f"attack {checkpoint(home, 'softmax')} --attack fgsm --images 25 --device cpu"
    found = rows(f"{words} --home {tmp_path}")
    assert [row["correct"] for row in found] == [row["correct"] for row in whitebox[:2]]
    assert {row["scale"] for row in found} == {"demo"}


def test_names_beside_a_checkpoint_take_its_data_set_and_scale(home, whitebox, nothing_trains):
    words = f"transfer --source {checkpoint(home, 'softmax')} --target softmax --images 25"
    (row,) = rows(f"{words} --device cpu")
    assert (row["dataset"], row["scale"], row["white_box"]) == ("digits", "demo", True)


def test_attack_options_reach_the_attack(whitebox, nothing_trains):
    for words, expected in (
        ("--eps 8/255 --set steps=3", {"eps": 8 / 255, "steps": 3}),
        ("--loss margin --set relative-step-size=0.5", {"relative_step_size": 0.5}),
        ("--set loss=margin", {"loss": "margin"}),
        ("--attack cw --set steps=5", {"c": 10.0, "steps": 5}),
    ):
        _, row = rows(f"attack softmax {HERE} {words}")
        assert row["parameters"].items() >= expected.items()


def test_adaptive_is_the_joint_loss(home, nothing_trains, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("PCLBENCH_HOME", str(home))
    words = f"attack ours {HERE} --set steps=2"
    found = [rows(f"{words} {option}") for option in ("--adaptive", "--loss joint")]
    found.append(rows(f"{words} --set loss=joint"))
    assert found[0] == found[1] == found[2]
    assert found[0][1]["parameters"]["loss"] == "joint"


def test_budgets_and_steps_are_told_apart(home, whitebox, nothing_trains):
    """A sweep prints one row per attack and budget; its label says all that is not the default."""
    sweep = f"attack softmax {HERE} --attack fgsm --attack pgd --eps 0.05 --eps 0.2"
    labels = [row["attack"] for row in rows(sweep)]
    assert labels == [
        "Clean",
        *("FGSM, eps 0.05", "FGSM, eps 0.2"),
        *("PGD, eps 0.05", "PGD, eps 0.2"),
    ]
    for steps, label in ((2, "PGD-2, eps 0.1"), (3, "PGD-3, eps 0.1")):
        assert label in run(f"attack softmax {HERE} --set steps={steps}").stdout


def test_attack_says_which_command_shows_its_number(home, whitebox, nothing_trains, monkeypatch):
    said = run(f"attack softmax {HERE} --attack pgd").stderr
    (shown,) = re.findall(r"Tables 3, [\d, ]+: pclbench (report --table 3 .*)", said)
    with monkeypatch.context() as patch:
        patch.delenv("PCLBENCH_HOME")
        assert f"{whitebox[2]['accuracy']:.1f}" in run(shown).stdout
    weak = run(f"attack softmax {HERE} --attack pgd --set relative_step_size=0.0001").stderr
    assert "in the worst case of Table" in weak


def test_transfer_makes_one_set_for_each_source(home, exact, nothing_trains, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("PCLBENCH_HOME", str(home))
    words = f"transfer --source softmax --source ours --target softmax --target ours {HERE}"
    before = set(Paths(home).adversarial_sets.iterdir())
    matrix = rows(words)
    pairs = [(source, target) for source in ("softmax", "ours") for target in ("softmax", "ours")]
    assert [(row["source"], row["target"]) for row in matrix] == pairs
    assert matrix[0]["id"] == exact[2]["id"]  # the diagonal is white-box
    assert [row["mode"] for row in matrix] == ["exact", "exact", "fast", "fast"]
    after = set(Paths(home).adversarial_sets.iterdir())
    assert {path.stem for path in after - before} == {matrix[2]["adversarial_set"]}
    lines = [line.split() for line in run(words).stdout.splitlines() if "%" in line]
    for line, row in zip(lines, (matrix[:2], matrix[2:]), strict=True):
        assert line[0] == row[0]["source"]
        assert line[1:5:2] == [f"{cell['accuracy']:.1f}" for cell in row]


def test_targets_of_one_name_are_two_columns(home, whitebox, tmp_path):
    """Two seeds, as files; and several attacks, a matrix each."""
    run(f"train digits --scale demo --seed 1 --device cpu --home {tmp_path}")
    files = (checkpoint(home, "softmax"), checkpoint(tmp_path, "softmax"))
    targets = " ".join(f"--target {path}" for path in files)
    words = f"transfer --source {files[0]} {targets} --attack fgsm --attack pgd --images 25"
    text = run(f"{words} --device cpu").stdout
    assert text.count("softmax (seed 1)") == 2
    values = [f"{row['accuracy']:.1f} %" for row in rows(f"{words} --device cpu")]
    lines = [line for line in text.splitlines() if "%" in line]
    assert [re.findall(r"\d+\.\d %", line) for line in lines] == [values[:2], values[2:]]


def test_dry_run_makes_nothing(home, whitebox, nothing_trains, tmp_path):
    before = sorted(home.rglob("*"))
    plan = f"run --table 3 --dataset digits {SIZES} --dry-run"
    result = run(plan)
    assert sorted(home.rglob("*")) == before
    states = {row["task"]: row["state"] for row in rows(plan)}
    assert states["train softmax on digits"] == "done"
    assert states["train ours-pgd on digits"] != "done"
    assert "tasks" in result.stderr
    elsewhere = run(f"{plan} --home {tmp_path / 'new'}")
    assert "done" not in elsewhere.stdout
    assert not (tmp_path / "new").exists()


def test_dry_run_tells_attacks_apart(home, tmp_path):
    words = f"attack softmax {HERE} --dry-run"
    titles = [
        row["task"] for steps in (10, 40, 200) for row in rows(f"{words} --set steps={steps}")
    ]
    assert len({title for title in titles if "under" in title}) == 3


def test_dry_run_answers_within_two_seconds_more_than_python_takes(tmp_path):
    """On an empty workspace, where 0.1 trained probe batches for half a minute."""
    command = "run --table 3 --dataset digits --scale demo --device cpu --dry-run"
    words = [sys.executable, "-m", "robustbench_pcl", *command.split(), "--home", str(tmp_path)]
    assert min(processor_seconds(words) for _ in range(2)) < 2


def processor_seconds(words):
    """What a command takes when no other process is in its way."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_suite_is_what_attack_with_all_steps_is(home, exact, tmp_path, nothing_trains):
    """Also the budget that it does not name: the data set's."""
    path = tmp_path / "my.toml"
    path.write_text(
        'datasets = ["digits"]\ntargets = ["softmax"]\nscale = "demo"\n'
        '[[attack]]\nname = "fgsm"\n[[attack]]\nname = "pgd"\n'
    )
    words = f"run --suite {path} --images 25 --device cpu"
    assert {row["state"] for row in rows(f"{words} --dry-run")} == {"done"}
    assert [row["id"] for row in rows(words)] == [row["id"] for row in exact]


def test_a_recipe_of_the_users_own_is_a_name_like_any_other(home, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[shorter]\nbase = "softmax"\nschedule = { epochs = 2 }\ntrain_images = 256\n')
    found = rows(f"--recipes {path} attack shorter {HERE} --attack fgsm")
    assert {row["target"] for row in found} == {"shorter"}
    shown = json.loads(run(f"--recipes {path} recipes show shorter --dataset digits").stdout)
    assert (shown["schedule"]["epochs"], shown["train_images"]) == (2, 256)


def test_train_sets_every_field(home):
    words = "train digits --scale demo --device cpu --set schedule.epochs=2 --set train_images=256"
    (row,) = rows(f"{words} --set schedule.momentum=0.5 --set width=0.2")
    recipe = Workspace().open(row["file"])
    assert (recipe.schedule.epochs, recipe.schedule.momentum) == (2, 0.5)
    assert (recipe.train_images, recipe.width) == (256, 0.2)
    assert recipe.name != "softmax"


def test_attacks_show_the_budget_of_the_data_set():
    for dataset, eps in (("mnist", 0.3), ("cifar10", 0.03), ("digits", 0.1)):
        shown = {row["name"]: row for row in rows(f"attacks show pgd --dataset {dataset}")}
        assert shown["eps"]["default"] == eps


@pytest.fixture
def asked(monkeypatch):
    """The tasks that commands hand to the executor, which does none of them here."""
    tasks = []

    def note(executor, work, artefacts, run, terms):
        tasks.extend(task for task, _ in work)

    monkeypatch.setattr(Local, "perform", note)
    return tasks


def attacks_in(tasks):
    return {
        (task.target.name, task.attack.label, task.mode)
        for task in tasks
        if isinstance(task, Measure) and task.attack and task.white_box
    }


def test_run_prints_a_table_in_the_format_asked_for(asked):
    words = f"run --table 3 {HERE}"
    assert {row["table"] for row in rows(words)} == {3}
    assert {row["table"] for row in rows(f"{words} --table 11")} == {3, 11}
    assert run(words).stdout.startswith("Table 3. ")
    assert run(f"{words} --format md").stdout.startswith("## Table 3. ")
    assert run(f"{words} --format html").stdout.count("</table>") == 1


def test_run_adds_attacks_to_what_a_table_attacks(asked):
    run(f"run --table 3 {HERE}")
    plain = attacks_in(asked)
    asked.clear()
    said = run(f"run --table 3 {HERE} --adaptive --exact").stderr
    added = {found for found in attacks_in(asked) if "joint" in found[1]}
    assert not any("joint" in label for _, label, _ in plain)
    assert {name for name, _, _ in added} == {"ours", "ours-fgsm", "ours-pgd"}
    assert {mode for _, _, mode in attacks_in(asked)} == {"exact"}
    assert "no joint loss: softmax" in said


def test_ablate_trains_with_the_loss_at_each_layer(asked, tmp_path):
    text = run(f"ablate digits {SIZES} --home {tmp_path}").stdout
    assert text.startswith("Table 11")
    names = {task.recipe.name for task in asked if isinstance(task, Train)}
    assert {"softmax", "ours-l1", "ours-l45", "ours"} <= names


def test_ablate_attacks_as_it_is_told(home, asked, monkeypatch):
    dry = rows(f"ablate digits {SIZES} --attack fgsm --eps 0.05 --eps 0.2 --dry-run")
    titles = [row["task"] for row in dry if row["task"].startswith("ours-l1 under")]
    assert ["eps 0.05" in titles[0], "eps 0.2" in titles[1], len(titles)] == [True, True, 2]


@pytest.mark.slow
def test_the_demo(tmp_path):
    page = tmp_path / "page.html"
    result = run(f"demo --home {tmp_path} --output {page}")
    assert "Table 3" in result.stdout
    assert "digits" in page.read_text(encoding="utf-8").lower()
    assert run(f"report --table 3 --scale demo --home {tmp_path}").stdout.count("–") < 10


@pytest.mark.slow
def test_every_table_and_figure_of_the_paper_on_digits(tmp_path):
    """In under 20 minutes on two cores: no cell is empty, and the page shows all of it."""
    page = tmp_path / "page.html"
    parts = [f"--table {number}" for number in published_numbers()]
    parts += [f"--figure {number}" for number in FIGURES]
    run(f"run {' '.join(parts)} --dataset digits --scale demo --home {tmp_path}")
    listed = json.loads(
        run(f"report --dataset digits --scale demo --format json --home {tmp_path}").stdout
    )["rows"]
    measured = {(row["kind"], row["number"]): row for row in listed if row["dataset"]}
    assert {number for kind, number in measured if kind == "table"} == set(published_numbers())
    assert {number for kind, number in measured if kind == "figure"} == set(FIGURES)
    assert all(row["measured_count"] > 0 == row["missing_count"] for row in measured.values())
    run(f"report --page --dataset digits --scale demo --output {page} --home {tmp_path}")
    text = page.read_text(encoding="utf-8")
    for number in range(1, 14):
        assert f"Table {number}." in text
    for number in FIGURES:
        assert f"Figure {number}." in text
