"""A task's file says everything, and a worker process does what it says."""

import json
import subprocess
import sys

import pytest

from robustbench_pcl import PGD, Workspace, load_recipe, plugins
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline import worker
from robustbench_pcl.pipeline.certifying import Certify
from robustbench_pcl.pipeline.diagnosing import Diagnose
from robustbench_pcl.pipeline.planner import KINDS
from robustbench_pcl.pipeline.sharding import Craft
from robustbench_pcl.pipeline.tasks import Embed, Generate, Measure, Train
from robustbench_pcl.pipeline.worker import TaskFile
from robustbench_pcl.recipes.presets import recipe_names
from robustbench_pcl.store.embeddings import View

ATTACK = PGD(eps=8 / 255, steps=3, loss="margin")


def tasks():
    ours = load_recipe("ours-pgd", "digits", "demo")
    source = load_recipe("vgg19", "cifar10", "paper")
    return [
        Train(ours),
        Generate(source, ATTACK),
        Generate(source, ATTACK, 7, 3, "early-stop"),
        Craft(Generate(source, ATTACK, 7), 1, 3),
        Measure(ours, source, ATTACK, 7, 3, "exact"),
        Measure(ours, ours, ATTACK, mode="early-stop"),
        Measure(ours),
        Embed(ours, View(layer=5, method="tsne", attack=ATTACK.dump()), 7),
        Embed(ours, View(layer=5, epoch=3)),
        Diagnose(source, ATTACK, 7, 3, (source,)),
        Diagnose(ours, ATTACK),
        Certify(source, 7, 0.3),
        Certify(ours),
    ]


def test_every_kind_of_task_is_among_them():
    assert {task.kind for task in tasks()} == set(KINDS)


def through_a_file(task, workspace, path):
    TaskFile.of(task, workspace).write(path)
    return TaskFile.read(path).open()


@pytest.mark.parametrize("number", range(len(tasks())))
def test_a_task_survives_its_file(number, tmp_path):
    task = tasks()[number]
    workspace = Workspace(tmp_path, device="cpu:0", data_root=tmp_path / "data")
    read, opened = through_a_file(task, workspace, tmp_path / "task.json")
    assert read == task
    assert read.key == task.key
    assert opened.paths.root == tmp_path
    assert (opened.device_name, opened.data_root) == ("cpu", tmp_path / "data")


def test_every_recipe_survives_its_file(tmp_path):
    for name in recipe_names():
        task = Train(load_recipe(name, "digits", "paper", 5))
        assert through_a_file(task, Workspace(tmp_path), tmp_path / "task.json")[0] == task


def test_an_opened_checkpoint_is_opened_again(tiny, tiny_home, tmp_path):
    trained = Workspace(tiny_home, device="cpu").train(tiny())
    workspace = Workspace(tmp_path, device="cpu")
    recipe = workspace.open(trained.path)
    _, opened = through_a_file(Measure(recipe), workspace, tmp_path / "task.json")
    assert opened.checkpoint(recipe).record.weights == trained.record.weights


def short(tiny):
    return tiny(schedule=tiny().schedule.changed(epochs=1))


PLUGIN = """
from typing import Literal
from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.gradient_descent import MIM
ATTACKS.add("mine", "my_attack:Mine")
class Mine(MIM):
    name: Literal["mine"] = "mine"
"""


def test_a_worker_process_does_a_task_with_the_plugins_that_it_needs(tiny, tmp_path, monkeypatch):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "my_attack.py").write_text(PLUGIN)
    monkeypatch.setattr(plugins, "LOADED", {"my_attack": folder})
    monkeypatch.setattr(worker, "LOADED", plugins.LOADED)
    recipe, path = short(tiny), tmp_path / "task.json"
    workspace = Workspace(tmp_path / "home", device="cpu")
    file = TaskFile.of(Measure(recipe, recipe, PGD(eps=0.1), 8), workspace)
    content = json.loads(file.model_dump_json())
    content["task"]["attack"] = {"name": "mine", "eps": 0.1}
    path.write_text(json.dumps(content))
    assert TaskFile.read(path).plugins == (("my_attack", folder),)
    command = [sys.executable, "-m", "robustbench_pcl.pipeline.worker", str(path)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    (stored,) = workspace.paths.measurements.glob("*.json")
    assert json.loads(stored.read_text())["attack"]["name"] == "mine"


def test_a_worker_without_a_plugin_says_so(tiny, tmp_path, monkeypatch, capsys):
    file = TaskFile.of(Train(tiny()), Workspace(tmp_path, device="cpu"))
    file.changed(plugins=(("gone", tmp_path),)).write(tmp_path / "task.json")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert worker.main(str(tmp_path / "task.json")) == 2
    assert "There is no plugin 'gone'." in capsys.readouterr().err


def test_what_is_stored_is_not_made_again(tiny, tiny_home, tmp_path, monkeypatch):
    TaskFile.of(Train(tiny()), Workspace(tiny_home, device="cpu")).write(tmp_path / "task.json")
    monkeypatch.setattr(Train, "compute", lambda *_: pytest.fail("it was trained again"))
    assert worker.main(str(tmp_path / "task.json")) == 0


def test_a_worker_says_what_is_wrong(tiny, tmp_path, capsys):
    file = TaskFile.of(Measure(tiny(), tiny(), ATTACK), Workspace(tmp_path, device="cpu"))
    content = json.loads(file.model_dump_json())
    content["task"]["attack"]["stepps"] = 3
    (tmp_path / "task.json").write_text(json.dumps(content))
    assert worker.main(str(tmp_path / "task.json")) == 2
    assert "stepps" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "", "{}", '{"kind": "train", "task": {}, "folder": 3}'])
def test_files_that_are_no_task(content, tmp_path):
    path = tmp_path / "task.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"Cannot read"):
        TaskFile.read(path)
