"""Exact, fast and until fooled: what each kind of set holds, and which stands in for which."""

import shutil
from contextlib import nullcontext

import h5py
import numpy as np
import pytest
import torch

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.data.batches import pixels
from robustbench_pcl.engine import shortcuts, victim
from robustbench_pcl.evaluation import crafting
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.progress import Progress
from robustbench_pcl.specs.base import Part
from robustbench_pcl.store.adversarial_sets import FIELDS

N, STEPS = 60, 10
PGD = Part(name="pgd", parameters={"eps": 0.1})
CW = Part(name="cw", parameters={"c": 10, "steps": 20})


@pytest.fixture
def bench(home):
    return Bench(home, device="cpu", images=N)


@pytest.fixture
def exactly(home):
    return Bench(home, device="cpu", images=N, exact=True)


def stored(found):
    with h5py.File(found.path, "r") as file:
        return {name: file[name][:] for name in FIELDS}


def clean_images(bench):
    return pixels(torch.from_numpy(np.array(bench.dataset("digits").test.images[:N])))


def classes(model, images):
    with torch.no_grad():
        return model(torch.as_tensor(images)).argmax(dim=1).numpy()


@pytest.mark.parametrize("name", ["softmax", "ours"])
def test_what_an_exact_set_holds_is_what_the_attack_gives(exactly, tiny, name):
    recipe = tiny(name)
    found = exactly.craft(recipe, PGD)
    labels = torch.from_numpy(np.array(exactly.dataset("digits").test.labels[:N]))
    expected = ATTACKS["pgd"](eps=0.1)(exactly.model(recipe), clean_images(exactly), labels)
    content = stored(found)
    np.testing.assert_array_equal(content["images"], expected.numpy())
    np.testing.assert_array_equal(content["predictions"], classes(exactly.model(recipe), expected))
    assert found.summary.precision == "float32"
    assert found.summary.backward_passes == STEPS * N


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["softmax", "ours"])
def test_what_a_set_until_fooled_holds(bench, tiny, monkeypatch, name, precision):
    """The first images that fool the model, the last of those that never do, and the wrong ones."""
    allowed = shortcuts.Shortcuts(folded=True, precision=precision)
    monkeypatch.setattr(crafting, "shortcuts_for", lambda device: allowed)
    recipe = tiny(name)
    model, clean = bench.model(recipe), clean_images(bench).numpy()
    content = stored(found := bench.craft(recipe, PGD, until_fooled=True))
    assert (found.spec.crafting, found.summary.precision) == ("until-fooled", precision)
    predictions = classes(model, clean)
    right = predictions == bench.dataset("digits").test.labels[:N]
    assert 0 < right.sum() < N
    np.testing.assert_array_equal(content["labels"], bench.dataset("digits").test.labels[:N])
    np.testing.assert_array_equal(content["indices"], np.arange(N))
    # Wrong ones are left as they are, with the class that they have.
    np.testing.assert_array_equal(content["images"][~right], clean[~right])
    np.testing.assert_array_equal(content["predictions"][~right], predictions[~right])
    # Every verdict is the model's own.
    np.testing.assert_array_equal(content["predictions"], classes(model, content["images"]))
    fooled = content["predictions"] != content["labels"]
    assert 0 < (fooled & right).sum() < right.sum()
    # Those that withstand took every step of the attack, others fewer.
    whole = stored(bench.craft(recipe, PGD))["images"]
    near = np.isclose(content["images"], whole, atol=1e-5).mean(axis=(1, 2, 3))
    if precision == "float32":
        assert near[~fooled].min() > 0.95
    assert near[fooled & right].min() < 0.9
    change = np.abs(content["images"] - clean)
    assert change.max() <= 0.1 + 1e-6
    assert change[fooled & right].mean() < change[~fooled].mean()
    found.verify()


def test_fewer_passes_are_made_until_fooled(bench, tiny):
    fast, stopped = (bench.craft(tiny(), PGD, until_fooled=flag) for flag in (False, True))
    right = (bench.measure(tiny()).accuracy) * N
    assert fast.summary.backward_passes >= STEPS * N
    assert stopped.summary.backward_passes < 0.8 * fast.summary.backward_passes
    assert stopped.summary.backward_passes <= STEPS * right + 3 * victim.PROBE
    assert stopped.summary.mean_l2 < fast.summary.mean_l2


def test_robust_accuracy_until_fooled_is_no_larger(bench, tiny):
    """An image counts as fooled if any step fooled the model, not only the last."""
    every, last = (bench.measure(tiny(), attack=PGD, until_fooled=flag) for flag in (True, False))
    assert 0 < every.correct <= last.correct < bench.measure(tiny()).correct


def test_the_way_of_making_a_set_is_part_of_its_id(bench, exactly, tiny):
    found = [
        exactly.craft(tiny(), PGD.merged({"steps": 2})),
        bench.craft(tiny(), PGD),
        bench.craft(tiny(), PGD, until_fooled=True),
        exactly.craft(tiny(), PGD),
    ]
    assert [one.spec.crafting for one in found] == ["exact", "fast", "until-fooled", "exact"]
    assert len({one.spec.id for one in found}) == 4
    assert len(list(bench.home.adversarial_sets.iterdir())) == 4
    specs = {one.spec.model_copy(update={"crafting": "exact"}).id for one in found[1:]}
    assert len(specs) == 1


def test_an_exact_set_stands_in_for_a_fast_one_and_for_no_other(bench, exactly, tiny, crafted):
    exact = exactly.craft(tiny(), PGD)
    assert bench.find_adversarial_set(tiny(), PGD) == exact
    assert bench.craft(tiny(), PGD) == exact
    assert crafted == [0]
    assert bench.find_adversarial_set(tiny(), PGD, until_fooled=True) is None
    stopped = bench.craft(tiny(), PGD, until_fooled=True)
    assert crafted == [0, 0]
    assert bench.find_adversarial_set(tiny(), PGD) == exact
    assert bench.find_adversarial_set(tiny(), PGD, until_fooled=True) == stopped


def test_nothing_stands_in_for_an_exact_set(bench, exactly, tiny, crafted):
    bench.craft(tiny(), PGD)
    bench.craft(tiny(), PGD, until_fooled=True)
    for flag in (False, True):
        assert exactly.find_adversarial_set(tiny(), PGD, until_fooled=flag) is None
        assert exactly.find_measurement(tiny(), attack=PGD, until_fooled=flag) is None
    exact = exactly.craft(tiny(), PGD, until_fooled=True)
    assert exact.spec.crafting == "exact"
    assert crafted == [0, 0, 0]
    assert exactly.craft(tiny(), PGD) == exact


def test_an_exact_set_is_preferred_to_a_fast_one_that_is_older(bench, exactly, tiny):
    fast, exact = bench.craft(tiny(), PGD), exactly.craft(tiny(), PGD)
    assert fast.spec.id != exact.spec.id
    assert bench.find_adversarial_set(tiny(), PGD) == exact
    measured = bench.measure(tiny(), attack=PGD)
    assert (measured.adversarial_set, measured.crafting) == (exact.spec.id, "exact")


def test_a_set_until_fooled_stands_in_for_no_other(bench, tiny):
    stopped = bench.craft(tiny(), PGD, until_fooled=True)
    assert bench.find_adversarial_set(tiny(), PGD) is None
    bench.measure(tiny(), attack=PGD, until_fooled=True)
    assert bench.find_measurement(tiny(), attack=PGD) is None
    assert bench.craft(tiny(), PGD) != stopped


def test_an_attack_that_looks_for_the_nearest_image_is_never_stopped(bench, tiny):
    found = bench.craft(tiny(), CW, until_fooled=True)
    assert found.spec.crafting == "fast"
    assert bench.find_adversarial_set(tiny(), CW) == found


def test_measurements_keep_how_their_set_was_made(bench, exactly, tiny):
    stopped, fast = (bench.measure(tiny(), attack=PGD, until_fooled=flag) for flag in (True, False))
    exact = exactly.measure(tiny(), attack=PGD)
    assert [one.crafting for one in (stopped, fast, exact)] == ["until-fooled", "fast", "exact"]
    assert len({one.id for one in (stopped, fast, exact)}) == 3
    assert exact.precision == "float32"
    assert stopped.correct_8bit is None
    assert None not in (fast.correct_8bit, exact.correct_8bit)


def test_shards_until_fooled_fill_in_any_order(tiny, home, tmp_path, monkeypatch, crafted):
    """An image that needs all steps does not keep later shards waiting, and loses nothing."""
    whole = Bench(home, device="cpu", images=N).craft(tiny(), PGD, until_fooled=True)
    for name, size, batch in (("a", 7, 128), ("b", 16, 5)):
        monkeypatch.setattr(crafting, "SHARD", size)
        monkeypatch.setitem(victim.BATCH, "cpu", batch)
        shutil.copytree(home / "checkpoints", tmp_path / name / "checkpoints")
        other = Bench(tmp_path / name, device="cpu", images=N)
        crafted.clear()
        found = other.craft(tiny(), PGD, until_fooled=True)
        assert crafted == list(range(0, N, size))
        for field in ("indices", "labels", "predictions"):
            np.testing.assert_array_equal(stored(found)[field], stored(whole)[field])
        differs = np.abs(stored(found)["images"] - stored(whole)["images"]) > 1e-5
        assert differs.mean() < 1e-3


def test_an_interrupted_set_until_fooled_goes_on_with_the_missing_shards(
    bench, tiny, monkeypatch, crafted
):
    monkeypatch.setattr(crafting, "SHARD", 15)
    with monkeypatch.context() as patch:
        patch.setattr(crafting, "finish_set", lambda *_: None)
        bench.craft(tiny(), PGD, until_fooled=True)
    (path,) = bench.home.adversarial_sets.glob("*/00000030.h5")
    path.unlink()
    found = bench.craft(tiny(), PGD, until_fooled=True)
    assert crafted == [0, 15, 30, 45, 30]
    content = stored(found)
    np.testing.assert_array_equal(
        content["predictions"], classes(bench.model(tiny()), content["images"])
    )


@pytest.mark.parametrize("until_fooled", [False, True])
def test_progress_counts_every_image(home, tiny, until_fooled):
    seen = []

    class Noted(Progress):
        def task(self, title, total):
            seen.append((title, total))
            return nullcontext(lambda done, note: seen.append(done))

    bench = Bench(home, device="cpu", images=N, progress=Noted())
    bench.craft(tiny(), PGD, until_fooled=until_fooled)
    assert seen[0] == ("pgd on softmax", N)
    assert sum(seen[1:]) == N
