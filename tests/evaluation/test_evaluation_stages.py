"""Attacks of several stages, stored: killed at any moment they come to the same, image by image."""

import itertools
import json
import shutil
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from evaluation_sets import clean_images, labels_of, stored, verdicts

from robustbench_pcl import PGD, AutoAttack, Strongest, Workspace, evaluate
from robustbench_pcl.attacks import target
from robustbench_pcl.evaluation import generate
from robustbench_pcl.progress import Progress
from robustbench_pcl.store.parts import load_parts

N, EPS, BATCH = 48, 0.12, 8
SEVERAL = PGD(eps=EPS, steps=8, restarts=12, loss="margin")
SHORT = Strongest(eps=EPS)

PROGRAM = """
import json, sys, time
from contextlib import contextmanager
from pathlib import Path
import torch
from robustbench_pcl import Workspace
from robustbench_pcl.attacks import ATTACKS, target
from robustbench_pcl.evaluation import generate
from robustbench_pcl.progress import Progress
from robustbench_pcl.recipe import Recipe

home, marker, recipe, attack, after = sys.argv[1:]
generate.PART = target.BATCH["cpu"] = 8
torch.set_num_threads(1)
passes = 0

original = target.TargetModel._pass
def counted(self, *given, **named):
    global passes
    passes += 1
    if passes == int(after):
        Path(marker).touch()
        time.sleep(600)
    return original(self, *given, **named)
target.TargetModel._pass = counted

workspace = Workspace(home, device="cpu")
source, attack = Recipe.model_validate_json(recipe), ATTACKS.read(json.loads(attack))
workspace.adversarial_set(source, attack, images=48, mode="early-stop")
"""


@pytest.fixture
def small(monkeypatch):
    """Batches, and parts, of eight images."""
    monkeypatch.setattr(generate, "PART", BATCH)
    monkeypatch.setitem(target.BATCH, "cpu", BATCH)


@pytest.fixture
def elsewhere(tiny_home, tmp_path):
    """Make a workspace of its own with the trained model."""

    def make(name):
        shutil.copytree(tiny_home / "checkpoints", tmp_path / name / "checkpoints")
        return Workspace(tmp_path / name, device="cpu")

    return make


def made(workspace, recipe, attack=SEVERAL):
    return workspace.adversarial_set(recipe, attack, images=N, mode="early-stop")


@pytest.mark.parametrize(
    ("attack", "kills", "after"),
    [(SEVERAL, 3, "40"), pytest.param(SHORT, 10, "160", marks=pytest.mark.slow)],
    ids=["restarts", "strongest"],
)
@pytest.mark.usefixtures("small")
def test_killed_it_comes_to_the_same_image_by_image(
    *, attack, kills, after, tiny_workspace, tiny, elsewhere, tmp_path, killed, begun
):
    """Each run is killed after so many passes; what it found by then is kept but for a batch."""
    undisturbed = made(elsewhere("whole"), tiny(), attack)
    whole = sum(map(len, begun))
    begun.clear()
    home, dump = tiny_workspace.paths.root, json.dumps(attack.dump())
    sets, kept = tiny_workspace.paths.adversarial_sets, [0]
    for kill in range(kills):
        marker = tmp_path / f"marker{kill}"
        killed(PROGRAM, marker, str(home), str(marker), tiny().model_dump_json(), dump, after)
        (parts,) = sets.glob("*.parts")
        kept.append(sum(len(part.indices) for part in load_parts(sets, parts.stem)))
    assert all(before < after for before, after in itertools.pairwise(kept))
    resumed = made(tiny_workspace, tiny(), attack)
    assert sum(map(len, begun)) == whole - kept[-1]  # nothing that is stored is done twice
    assert resumed.summary.images_digest == undisturbed.summary.images_digest
    assert resumed.stages == undisturbed.stages
    for name, array in stored(undisturbed).items():
        np.testing.assert_array_equal(stored(resumed)[name], array, strict=True)
    np.testing.assert_array_equal(resumed.felled_by(), undisturbed.felled_by())


@pytest.mark.parametrize("attack", [SEVERAL, Strongest(eps=EPS, budget="quick")], ids=str)
def test_what_is_stored_is_what_a_call_in_memory_finds(tiny_workspace, tiny, attack):
    found = made(tiny_workspace, tiny(), attack)
    images, labels = clean_images(tiny_workspace, N), labels_of(tiny_workspace, N)
    model = tiny_workspace.model(tiny())
    expected = evaluate(model, images, torch.from_numpy(labels), attack)
    titles = [*found.stages, "clean", ""]
    assert tuple(titles[number] for number in found.felled_by()) == expected.felled_by
    measured = tiny_workspace.measure(tiny(), attack, images=N, mode="early-stop")
    np.testing.assert_array_equal(verdicts(measured), expected.robust.numpy())
    codes = np.frombuffer(bytes.fromhex(measured.felled_by), np.uint8).astype(int)
    np.testing.assert_array_equal(codes == 0, expected.robust.numpy())
    np.testing.assert_array_equal(codes == 1, ~expected.clean.numpy())
    assert {measured.stages[code - 2] for code in codes if code > 1} <= {*found.stages}


def test_the_bar_says_which_stage_it_is_and_how_many_withstand(tiny_workspace, tiny):
    said, done = [], []

    class Noted(Progress):
        def task(self, title, total):
            return nullcontext(lambda units, words: (done.append(units), said.append(words)))

    tiny_workspace.progress = Noted()
    found = made(tiny_workspace, tiny())
    assert sum(done) == pytest.approx(N)
    assert min(done) >= 0
    stages = list(dict.fromkeys(words.partition(" ")[0] for words in said))
    assert stages == [f"{number}/12" for number in range(1, 13)]
    left = int((found.felled_by() == -1).sum())
    assert said[-1].endswith(f"start 12 of 12, {left} withstand")


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_all_steps_in_all_stages(tiny_workspace, tiny, mode):
    """Without early stop, too, a later stage takes only who withstood; the nearest image stays."""
    attack = PGD(eps=EPS, steps=3, restarts=3)
    found = tiny_workspace.adversarial_set(tiny(), attack, images=N, mode=mode)
    once = tiny_workspace.adversarial_set(tiny(), PGD(eps=EPS, steps=3), images=N, mode=mode)
    first = found.felled_by() == 0
    np.testing.assert_array_equal(first, once.felled_by() == 0)
    np.testing.assert_array_equal(stored(found)["images"][first], stored(once)["images"][first])
    assert found.source_verdicts().sum() <= once.source_verdicts().sum()
    np.testing.assert_array_equal(found.felled_by() == -1, found.source_verdicts())


def test_autoattack_is_stored_like_any_other(tiny_workspace, tiny):
    attack = AutoAttack(eps=0.3)
    found = made(tiny_workspace, tiny(), attack)
    assert found.spec.attack == {"name": "auto", "eps": 0.3, "version": "standard"}
    assert found.stages[0] == "APGD"
    assert found.stages[-1] == "Square"
    found.verify()
