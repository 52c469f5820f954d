"""Models of a user's own: stored once, found again by name, file and worker, never mixed."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from robustbench_pcl import PGD, Workspace
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline.models import (
    find_external,
    find_model,
    is_file,
    is_source,
    open_stored,
)
from robustbench_pcl.pipeline.planner import plan
from robustbench_pcl.pipeline.suite import load_suite
from robustbench_pcl.pipeline.tasks import Generate, Measure
from robustbench_pcl.pipeline.worker import TaskFile
from robustbench_pcl.recipe import ExternalModel
from robustbench_pcl.store.checkpoints import load_arrays
from robustbench_pcl.store.records import load_measurements

CODE = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
    def forward(self, images):
        return self.layer(nn.functional.adaptive_avg_pool2d(images, 8).flatten(1))
class pair(Net):
    def forward(self, images):
        return images, super().forward(images)
"""
PGD_3 = PGD(eps=0.1, steps=3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with code and two sets of weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text(CODE)
    for seed, name in enumerate(("net.pt", "other.pt")):
        torch.manual_seed(seed)
        layer = nn.Linear(64, 10)
        torch.save({f"layer.{key}": value for key, value in layer.state_dict().items()}, name)
    return tmp_path


@pytest.fixture
def workspace(folder):
    return Workspace(folder / "home", device="cpu")


def mine(workspace, weights="net.pt", source="code.py:Net", **options):
    return workspace.external(source, "digits", weights, scale="demo", **options)


def test_it_is_measured_as_any_model_and_its_weights_are_kept(workspace):
    model = mine(workspace, name="my-net", mean=0.5, std=0.25)
    assert isinstance(model, ExternalModel)
    clean, attacked = (workspace.measure(model, attack, images=20) for attack in (None, PGD_3))
    assert clean.target.recipe == attacked.source.recipe == model
    assert attacked.correct <= clean.correct
    (file,) = workspace.paths.checkpoints.glob("*.safetensors")
    assert file.name == f"digits-my-net-demo-{model.id()}-{model.weights}.safetensors"
    stored, given = load_arrays(file, model.weights), torch.load("net.pt", weights_only=True)
    assert all(torch.equal(torch.from_numpy(stored[name]), given[name]) for name in given)


def test_no_training_is_planned_for_it(workspace):
    model = mine(workspace, name="my-net")
    assert [task.kind for task in plan([Measure(model, model, PGD_3)])] == ["generate", "measure"]


def test_the_same_once_more_is_found(workspace):
    first = mine(workspace, name="my-net")
    measured = workspace.measure(first, PGD_3, images=20)
    again = Workspace(workspace.paths.root, device="cpu")
    assert mine(again, name="my-net") == first
    assert again.find(Measure(first, first, PGD_3, 20)) == measured


def test_another_scale_is_the_same_model(workspace):
    model = mine(workspace, name="my-net")
    workspace.measure(model, images=20)
    quick = workspace.external("code.py:Net", "digits", "net.pt", name="my-net", scale="quick")
    assert (quick.scale, quick.id()) == ("quick", model.id())
    assert len(list(workspace.paths.checkpoints.iterdir())) == 1


def test_a_name_is_made_from_the_source(workspace):
    assert mine(workspace).name == "code-net"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": "other.pt"}, "with other weights:"),
        ({"mean": 0.5, "std": 0.5}, "with another mean and another std:"),
        ({"source": "code.py:pair", "output": "1"}, "with source code.py:Net and another output:"),
    ],
)
def test_two_models_of_one_name_are_not_mixed(workspace, change, words):
    workspace.measure(mine(workspace, name="my-net"), images=20)
    with pytest.raises(UserError, match="my-net was measured as another model") as raised:
        mine(workspace, name="my-net", **change)
    assert words in raised.value.cause
    assert "--name my-net-2" in raised.value.cure
    other = mine(workspace, name="my-net-2", **change)
    keys = {
        workspace.checkpoint(model).record.key for model in (other, mine(workspace, name="my-net"))
    }
    assert len(keys) == 2
    assert [each.record.recipe.name for each in find_external(workspace, "my-net")] == ["my-net"]


def test_a_name_of_which_nothing_is_known_goes_to_the_next(workspace):
    """Who forgot the normalisation gives the command again."""
    mine(workspace, name="my-net")
    model = mine(workspace, name="my-net", mean=0.5, std=0.25)
    (file,) = workspace.paths.checkpoints.iterdir()
    assert model.id() in file.name


def test_a_name_that_is_nearly_a_stored_ones(workspace):
    mine(workspace, name="my-net")
    with pytest.raises(UserError, match="Did you mean my-net"):
        find_model(workspace, "my-nte", "digits", "demo")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "ours"}, "'ours' is the name of another"),
        ({"name": "My net"}, "my-net"),
        (
            {"mean": "0.1,0.2", "std": 0.5},
            "--mean has 2 numbers, but images of Digits have 1 channel",
        ),
        ({"weights": "none.pt"}, "Cannot read none.pt"),
        ({"source": "code.py:pair"}, "Say which part is the logits: --output 0 or 1"),
    ],
)
def test_what_cannot_come_in_leaves_nothing(workspace, options, words):
    with pytest.raises(UserError) as raised:
        mine(workspace, **options)
    assert words in str(raised.value)
    assert not workspace.paths.checkpoints.exists()


def test_a_name_and_a_file_find_it_again(workspace, folder):
    model = mine(workspace, name="my-net")
    file = str(next(workspace.paths.checkpoints.iterdir()))
    for name in ("my-net", file):
        found = find_model(Workspace(folder / "home", device="cpu"), name, "digits", "quick")
        assert found == model.changed(scale="quick")
    elsewhere = Workspace(folder / "elsewhere", device="cpu")
    found = find_model(elsewhere, file, "digits", "demo")
    assert elsewhere.measure(found, images=20).n == 20


def test_a_name_of_two_data_sets(workspace):
    mine(workspace, name="my-net")
    with pytest.raises(UserError, match="trained on digits"):
        find_model(workspace, str(next(workspace.paths.checkpoints.iterdir())), "mnist", "demo")
    with pytest.raises(UserError, match="my-net was trained on digits, not on mnist"):
        find_model(workspace, "my-net", "mnist", "demo")
    workspace.external("code.py:Net", "mnist", "net.pt", name="my-net")
    with pytest.raises(UserError, match="Several models are called my-net"):
        open_stored(workspace, "my-net", None)
    assert find_model(workspace, "my-net", "mnist", "quick").dataset == "mnist"


def test_a_checkpoint_of_pclbenchs_own_is_a_model_by_its_file(tiny, tiny_workspace):
    path = tiny_workspace.train(tiny()).path
    assert find_model(tiny_workspace, str(path), "digits", "demo") == tiny()
    with pytest.raises(UserError, match="at scale demo, not quick"):
        find_model(tiny_workspace, str(path), "digits", "quick")


@pytest.mark.parametrize("gone", [True, False])
def test_code_that_is_gone_or_has_changed_is_said(workspace, folder, gone):
    model = mine(workspace, name="my-net", mean=0.5, std=0.25)
    if gone:
        (folder / "code.py").unlink()
    else:
        (folder / "code.py").write_text(CODE + "# changed\n")
    again = Workspace(folder / "home", device="cpu")
    found = find_model(again, "my-net", "digits", "demo")
    with pytest.raises(UserError) as raised:
        again.measure(found, images=20)
    said = "is gone: there is no" if gone else "has changed since it was stored: code.py in"
    assert f"The code of {model.name} {said}" in raised.value.cause
    if not gone:
        assert "--mean 0.5 --std 0.25 --name my-net-2" in raised.value.cure


def test_code_that_was_moved_is_found_in_the_current_folder(workspace, folder, monkeypatch):
    mine(workspace, name="my-net")
    (folder / "new").mkdir()
    (folder / "code.py").rename(folder / "new" / "code.py")
    monkeypatch.chdir(folder / "new")
    again = Workspace(folder / "home", device="cpu")
    assert again.measure(find_model(again, "my-net", "digits", "demo"), images=20).n == 20


def test_weights_that_are_gone_are_said(workspace):
    model = mine(workspace, name="my-net")
    next(workspace.paths.checkpoints.iterdir()).unlink()
    again = Workspace(workspace.paths.root, device="cpu")
    with pytest.raises(UserError, match="weights of my-net are not in") as raised:
        again.measure(model, images=20)
    assert "pclbench attack code.py:Net --weights FILE" in raised.value.cure


def test_a_worker_finds_it_from_any_folder(workspace, folder, tmp_path_factory):
    model = mine(workspace, name="my-net")
    path = folder / "task.json"
    TaskFile.of(Generate(model, PGD_3, 20), workspace).write(path)
    task, _ = TaskFile.read(path).open()
    assert task == Generate(model, PGD_3, 20)
    words = [sys.executable, "-m", "robustbench_pcl.pipeline.worker", str(path)]
    subprocess.run(words, cwd=tmp_path_factory.mktemp("node"), check=True, capture_output=True)
    assert workspace.find(Generate(model, PGD_3, 20)) is not None


SUITE = """
datasets = ["digits"]
targets = ["in-suite", "{file}", "softmax"]
sources = ["my-net"]
scale = "demo"

[models.in-suite]
source = "code.py:Net"
weights = "other.pt"
mean = [0.5]
std = 0.25

[[attack]]
name = "fgsm"
"""


def test_a_suite_brings_models_in_and_takes_stored_ones_and_files(workspace, folder):
    mine(workspace, name="my-net")
    file = next(workspace.paths.checkpoints.iterdir())
    (folder / "suite.toml").write_text(SUITE.replace("{file}", str(file)))
    ((_, tasks),) = load_suite(folder / "suite.toml").tasks(workspace, images=20)
    pairs = [(task.target.name, task.source and task.source.name) for task in tasks]
    assert pairs == [
        ("in-suite", None),
        ("in-suite", "in-suite"),
        ("in-suite", "my-net"),
        ("my-net", None),
        ("my-net", "my-net"),
        ("softmax", None),
        ("softmax", "softmax"),
        ("softmax", "my-net"),
    ]
    assert (tasks[0].target.mean, tasks[0].target.std) == ((0.5,), (0.25,))
    for task in tasks[:5]:
        workspace.make(task)
    names = {record.target.recipe.name for record in load_measurements(workspace.paths)}
    assert names == {"in-suite", "my-net"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("weights = ", "wights = "), "models, in-suite, wights means nothing here"),
        (("std = 0.25", "std = 0"), "std is not positive"),
        (('"code.py:Net"', '"code.py"'), "say which class or function"),
        (("in-suite", "ours"), "'ours' is the name of another"),
    ],
)
def test_mistakes_in_a_suites_models(workspace, folder, change, words):
    mine(workspace, name="my-net")
    text = SUITE.replace('"{file}", ', "").replace(*change)
    (folder / "suite.toml").write_text(text)
    with pytest.raises(UserError) as raised:
        load_suite(folder / "suite.toml").tasks(workspace)
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("my_model.py:Net", "source"),
        ("./lab/my_model.py:Net", "source"),
        ("my_model.py", "source"),
        ("torchvision:resnet18", "source"),
        ("my_model.pt", "file"),
        ("checkpoints/my-net", "file"),
        ("ours", ""),
        ("my-net", ""),
    ],
)
def test_what_a_name_stands_for(name, kind):
    assert (is_source(name), is_file(name)) == (kind == "source", kind == "file")
