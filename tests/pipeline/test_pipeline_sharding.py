"""Sets that are crafted in shards are the sets that are crafted whole, to the byte."""

import shutil

import numpy as np
import pytest

from robustbench_pcl import Workspace
from robustbench_pcl.attacks import ATTACKS, stages
from robustbench_pcl.pipeline.executors.workers import Workers
from robustbench_pcl.pipeline.planner import missing
from robustbench_pcl.pipeline.sharding import Craft, sharded
from robustbench_pcl.pipeline.tasks import Generate, Measure
from robustbench_pcl.pipeline.worker import TaskFile

FEW = 20
N = 3 * FEW + 7
PGD = ATTACKS.configure("pgd", {"eps": 0.1, "steps": 5, "restarts": 2})
ATTACKED = {
    "exact": (PGD, "exact"),
    "fast": (PGD, "fast"),
    "early-stop": (PGD, "early-stop"),
    "random-search": (ATTACKS.configure("square", {"eps": 0.1, "steps": 30}), "early-stop"),
    "boundary": (ATTACKS.configure("deepfool", {"steps": 5}), "exact"),
    "stages": (ATTACKS.configure("strongest", {"eps": 0.15, "budget": "quick"}), "early-stop"),
}
"""Attacks of one stage and of several, with random starts and without."""


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Images in a block."""
    monkeypatch.setitem(stages.BLOCK, "cpu", FEW)


@pytest.fixture(params=ATTACKED)
def whole(request, tiny):
    attack, mode = ATTACKED[request.param]
    return Generate(tiny("ours"), attack, N, seed=3, mode=mode)


def copied(workspace, folder):
    """The same checkpoints in a workspace of its own."""
    shutil.copytree(workspace.paths.checkpoints, folder / "checkpoints")
    return Workspace(folder, device="cpu")


def assert_same(found, expected):
    """But for the time that it took."""
    assert found.spec == expected.spec
    assert found.stages == expected.stages
    for name in ("images_digest", "largest_linf", "mean_l2", "blind"):
        assert getattr(found.summary, name) == getattr(expected.summary, name), name
    for name, column in expected.columns.items():
        np.testing.assert_array_equal(found.columns[name], column, strict=True)
    for (these, _), (those, _) in zip(found.batches(N), expected.batches(N), strict=True):
        np.testing.assert_array_equal(these, those, strict=True)


def test_shards_join_to_the_set_that_is_made_whole(whole, tiny_workspace, tmp_path):
    shards = 3
    expected = tiny_workspace.make(whole)
    workspace = copied(tiny_workspace, tmp_path / "sharded")
    *crafts, joining = sharded(missing([whole], workspace), workspace, shards)
    assert len(crafts) == shards
    assert {need.key for need in joining.needs} >= {craft.key for craft in crafts}
    for craft in reversed(crafts):
        assert craft.find(workspace) is None
        workspace.make(craft)
    assert whole.find(workspace) is None
    found = workspace.make(joining)
    assert_same(found, expected)
    assert list(workspace.paths.adversarial_sets.iterdir()) == [found.path]
    assert all(workspace.find(craft) == found.path for craft in crafts)


def test_what_a_shard_did_not_finish_is_made_by_the_set(tiny, tiny_workspace, tmp_path):
    whole = Generate(tiny("ours"), PGD, N, mode="fast")
    expected = tiny_workspace.make(whole)
    workspace = copied(tiny_workspace, tmp_path / "sharded")
    workspace.make(Craft(whole, 1, 3))
    parts = next(workspace.paths.adversarial_sets.glob("*.parts"))
    next(parts.glob("part-*.h5")).write_bytes(b"no longer")
    assert_same(workspace.make(whole), expected)


def test_small_sets_and_randomised_models_stay_whole(tiny, tiny_workspace):
    small = Generate(tiny("ours"), PGD, FEW)
    random = Generate(tiny("ours"), PGD.changed(forwards=2), N)
    other = Measure(tiny("ours"), images=N)
    for task in (small, random, other):
        (planned,) = sharded([task], tiny_workspace, 8)
        assert planned.key == task.key
        assert planned.needs == task.needs


def test_a_shard_travels_as_a_task_file(tiny, tiny_workspace, tmp_path):
    craft = Craft(Generate(tiny("ours"), PGD, N, seed=3, mode="early-stop"), 1, 3)
    TaskFile.of(craft, tiny_workspace).write(tmp_path / "task.json")
    task, _ = TaskFile.read(tmp_path / "task.json").open()
    assert task == craft
    assert task.key == craft.key


def test_two_workers_craft_one_set(tiny, tiny_workspace, tmp_path):
    whole = Generate(tiny("ours"), PGD, N, mode="exact")
    expected = tiny_workspace.make(whole)
    workspace = copied(tiny_workspace, tmp_path / "sharded")
    tasks = sharded(missing([whole], workspace), workspace, 2)
    run = Workers(workers=2).execute([(task, 1.0) for task in tasks], workspace)
    assert len({task.identity for task in run.record.tasks}) == 2
    assert_same(workspace.find(whole), expected)
