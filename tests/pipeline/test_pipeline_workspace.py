"""The Python API: a folder of artefacts that are found or made, each looked up and keyed once."""

import shutil
import subprocess
import sys
from pkgutil import walk_packages

import numpy as np
import pytest
import torch

from robustbench_pcl import FGSM, Workspace, load_attack, pipeline
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline import artefacts
from robustbench_pcl.pipeline.planner import missing
from robustbench_pcl.pipeline.tasks import Measure
from robustbench_pcl.progress import Progress
from robustbench_pcl.store.checkpoints import load_arrays, save_arrays, save_checkpoint
from robustbench_pcl.store.records import load_measurements

FGSM_01 = FGSM(eps=0.1)


class Spoken(Progress):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


@pytest.fixture
def mine(tiny_home, tiny, tmp_path):
    """A checkpoint's file outside any workspace."""
    path = tmp_path / "mine.safetensors"
    shutil.copy(Workspace(tiny_home, device="cpu").train(tiny()).path, path)
    return path


def beside(checkpoint, recipe):
    """Put other weights of a recipe beside its checkpoint, as other threads would make them."""
    arrays = load_arrays(checkpoint.path)
    arrays["classifier.head.bias"] = arrays["classifier.head.bias"] + np.float32(0.1)
    folder, identity = checkpoint.path.parent, checkpoint.record.checkpoint
    return save_checkpoint(folder, recipe, identity, arrays)


def test_from_a_recipe_to_a_number(tiny_workspace, tiny):
    clean = tiny_workspace.measure(tiny("ours"), images=20)
    attacked = tiny_workspace.measure(tiny("ours"), FGSM_01, images=20)
    assert clean.n == attacked.n == 20
    assert attacked.attack == FGSM_01.dump()
    logits = tiny_workspace.model(tiny("ours"))(torch.rand(3, 1, 8, 8))
    assert logits.shape == (3, 10)


def test_an_attack_by_name_has_the_data_sets_budget(tiny_workspace, tiny):
    assert tiny_workspace.measure(tiny(), "fgsm", images=8).attack["eps"] == 0.1


def test_as_many_images_as_asked_or_as_the_scale_has_if_there_are(tiny_workspace, tiny):
    def n(**options):
        return tiny_workspace.measure(tiny(), **options).n

    assert (n(), n(images=7), n(images=10**6)) == (200, 7, 500)


def test_what_is_stored_is_found_and_nothing_is_made(tiny_workspace, tiny):
    measure = Measure(tiny(), tiny(), FGSM_01, 10)
    assert tiny_workspace.find(measure) is None
    assert not tiny_workspace.paths.results.exists()
    made = tiny_workspace.make(measure)
    assert Workspace(tiny_workspace.paths.root, device="cpu").find(measure) == made


def test_nothing_is_fetched_to_find_something(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("PCLBENCH_CACHE", str(tmp_path / "empty"))
    workspace = Workspace(tmp_path, device="cpu")
    assert workspace.find(Measure(tiny(), tiny(), FGSM_01)) is None
    assert not (tmp_path / "empty").exists()


def test_a_checkpoint_from_a_file_stands_for_its_recipe(mine, tiny, tmp_path):
    workspace = Workspace(tmp_path / "home", device="cpu")
    assert workspace.checkpoint(tiny()) is None
    assert workspace.open(mine) == tiny()
    assert workspace.checkpoint(tiny()).path == mine
    assert workspace.train(tiny()).path == mine
    workspace.measure(tiny(), FGSM_01, images=10)
    assert not (tmp_path / "home" / "checkpoints").exists()
    assert workspace.open(mine) == tiny()  # once more does no harm


def test_two_files_of_one_recipe_are_not_mistaken_for_each_other(mine, tiny, tmp_path):
    workspace = Workspace(tmp_path, device="cpu")
    workspace.open(mine)
    shutil.copy(mine, tmp_path / "copy.safetensors")
    workspace.open(tmp_path / "copy.safetensors")  # the same weights
    other = beside(workspace.checkpoint(tiny()), tiny())
    with pytest.raises(UserError, match="different weights of one recipe"):
        workspace.open(other.path)


def test_two_checkpoints_of_one_recipe_are_seen_named_and_never_mixed(tiny_workspace, tiny):
    first = tiny_workspace.train(tiny())
    other = beside(first, tiny())
    folder, said = tiny_workspace.paths.root, Spoken()
    workspace = Workspace(folder, device="cpu", progress=said)
    used, unused = sorted((first, other), key=lambda checkpoint: checkpoint.path.name)
    assert workspace.train(tiny()).record.weights == used.record.weights
    measured = workspace.measure(tiny(), FGSM_01, images=20)
    assert measured.source.weights == measured.target.weights == used.record.weights
    assert len(said.lines) == 1  # once, however often it is used
    assert f"softmax: {used.path.name} is used" in said.lines[0]
    assert unused.path.name in said.lines[0]

    named = Workspace(folder, device="cpu", progress=Spoken())
    recipe = named.open(unused.path)
    assert named.find(Measure(recipe, recipe, FGSM_01, 20)) is None
    theirs = named.measure(recipe, FGSM_01, images=20)
    assert theirs.source.weights == theirs.target.weights == unused.record.weights
    assert named.progress.lines == []
    assert len(load_measurements(named.paths)) == 2


def test_a_checkpoint_of_other_data_is_another_checkpoint(tiny, tiny_home):
    workspace = Workspace(tiny_home, device="cpu")
    digest = workspace.dataset("digits").train.digest
    assert workspace.checkpoint(tiny()).record.checkpoint == tiny().id(digest)
    assert tiny().id(digest) != tiny().id("other")


def test_recipes_that_only_decide_otherwise_share_a_checkpoint(tiny, tiny_home):
    workspace = Workspace(tiny_home, device="cpu")
    nearest = tiny("ours", name="ours-nearest", inference="nearest")
    found = workspace.train(nearest)
    assert found.path == workspace.train(tiny("ours")).path
    assert found.record.recipe == nearest
    assert found.record.key != workspace.train(tiny("ours")).record.key


def test_few_models_are_kept_in_memory(tiny, tiny_home, monkeypatch):
    monkeypatch.setattr(artefacts, "MODELS_KEPT", 2)
    workspace = Workspace(tiny_home, device="cpu")
    first = workspace.model(tiny())
    assert workspace.model(tiny()) is first
    for name in ("ours", "ours-pgd"):
        workspace.model(tiny(name))
    assert workspace.model(tiny()) is not first


def test_an_older_store_is_answered_in_one_line_and_left_alone(tmp_path):
    old = tmp_path / "results" / "measurements" / "0123456789ab.json"
    old.parent.mkdir(parents=True)
    old.write_text('{"id": "0123456789ab"}')
    with pytest.raises(UserError, match=r"pclbench 0\.1.*--home"):
        Workspace(tmp_path)
    assert old.read_text() == '{"id": "0123456789ab"}'


def entered(work):
    """The functions of the package that something enters, in turn; methods of classes by class."""
    names = []

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and "robustbench_pcl" in code.co_filename:
            kind = frame.f_locals.get("cls")
            name = code.co_name if isinstance(kind, type) else code.co_qualname
            names.append(f"{kind.__name__}.{name}" if isinstance(kind, type) else name)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return names


def test_each_thing_is_settled_once(tiny_workspace, tiny):
    """The attack is completed once, its set's id computed once, the checkpoint looked up once."""

    def work():
        attack = load_attack("pgd", "digits", "demo")
        measure = Measure(tiny(), tiny(), attack, 10, mode="early-stop")
        assert missing([measure], tiny_workspace)
        tiny_workspace.make(measure)
        tiny_workspace.make(measure)

    names = entered(work)
    for once in ("PGD.complete", "SetSpecification.id", "find_checkpoint", "load"):
        assert names.count(once) == 1, once


def test_nothing_of_the_pipeline_imports_torch():
    modules = [found.name for found in walk_packages(pipeline.__path__, f"{pipeline.__name__}.")]
    program = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_checkpoint_whose_recipe_is_another_is_refused(tiny_workspace, tiny):
    """Also where its header has the digest that goes with it: the id tells."""
    stored = tiny_workspace.train(tiny())
    other = stored.record.changed(recipe=tiny(seed=5)).content()
    save_arrays(stored.path, load_arrays(stored.path), other)
    with pytest.raises(UserError, match="its recipe is not the one that its id stands for"):
        Workspace(tiny_workspace.paths.root, device="cpu").train(tiny())
