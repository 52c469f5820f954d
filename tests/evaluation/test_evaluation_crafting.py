"""Crafting: what a set holds, and that a killed run loses no shard and changes no bit."""

import shutil
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.parts import build_attack, resolved
from robustbench_pcl.engine import victim as engine
from robustbench_pcl.engine.victim import PROBE
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation import crafting
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.specs.base import Part
from robustbench_pcl.store.adversarial_sets import FIELDS, stored_shards

EPS, N = 0.1, 40
PARTS = {
    name: Part(name=name, parameters={"c": 10, "steps": 20} if name == "cw" else {"eps": EPS})
    for name in ATTACKS
}

# Crafts in shards of eight, one after the other, and hangs after the third one.
PROGRAM = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
import torch
from robustbench_pcl.engine import victim
from robustbench_pcl.evaluation import crafting
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.progress import Progress
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.recipe import Recipe

home, marker = Path(sys.argv[1]), Path(sys.argv[2])
crafting.SHARD = victim.BATCH["cpu"] = 8
torch.set_num_threads(1)

class Hang(Progress):
    @contextmanager
    def task(self, title, total):
        seen = 0
        def advance(done, note):
            nonlocal seen
            seen += done
            if seen == 24:
                marker.touch()
                time.sleep(600)
        yield advance

bench = Bench(home, device="cpu", images=40, progress=Hang())
recipe = Recipe.model_validate_json(sys.argv[3])
bench.craft(recipe, Part(name="pgd", parameters={"eps": 0.1}))
"""


@pytest.fixture
def bench(home):
    return Bench(home, device="cpu", images=N)


def stored(found):
    with h5py.File(found.path, "r") as file:
        return {name: file[name][:] for name in FIELDS}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_a_set_holds(bench, tiny, name):
    found = bench.craft(tiny(), PARTS[name])
    test, content = bench.dataset("digits").test, stored(found)
    clean = test.images[:N].astype(np.float32) / 255

    assert content["images"].dtype == np.float32
    assert content["images"].shape == (N, 1, 8, 8)
    assert content["images"].min() >= 0
    assert content["images"].max() <= 1
    np.testing.assert_array_equal(content["indices"], np.arange(N))
    np.testing.assert_array_equal(content["labels"], test.labels[:N])
    with torch.no_grad():
        logits = bench.model(tiny())(torch.from_numpy(content["images"]))
    np.testing.assert_array_equal(content["predictions"], logits.argmax(dim=1))

    largest = np.abs(content["images"] - clean).max()
    assert found.summary.largest_linf == pytest.approx(largest, abs=1e-7)
    assert largest > 0
    if name != "cw":
        assert largest <= EPS + 1e-6
    assert found.summary.mean_l2 > 0
    found.verify()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", ATTACKS)
def test_what_a_set_says_of_itself(bench, tiny, name, exact):
    bench.exact = exact
    found = bench.craft(tiny(), PARTS[name])
    spec, attack = found.spec, found.spec.attack
    assert attack.name == name
    assert attack.parameters.keys() == {entry.name for entry in fields(ATTACKS[name])}
    assert attack.parameters.items() >= PARTS[name].parameters.items()
    assert spec.norm == ("l2" if name == "cw" else "linf")
    assert spec.source == bench.checkpoint(tiny()).record
    assert spec.data.digest == bench.dataset("digits").test.digest
    assert (spec.n, spec.seed) == (N, 0)
    assert found.summary.seconds > 0
    assert spec.crafting == ("exact" if exact else "fast")
    forward, backward = found.summary.forward_passes, found.summary.backward_passes
    if name != "cw":
        # The images that are made are classified, too; shortcuts are tried on a few images.
        passes, tried = attack.parameters["steps"] * N, [0] if exact else [2 * PROBE, 3 * PROBE]
        assert backward - passes in tried
        assert forward == backward + N
    assert resolved(build_attack(attack)) == attack


def test_attacks_do_harm(bench, tiny):
    content = stored(bench.craft(tiny(), PARTS["pgd"]))
    robust = (content["predictions"] == content["labels"]).mean()
    assert robust < bench.measure(tiny()).accuracy


@pytest.fixture
def shards_of_eight(monkeypatch):
    """Attacked one after the other."""
    monkeypatch.setattr(crafting, "SHARD", 8)
    monkeypatch.setitem(engine.BATCH, "cpu", 8)


@pytest.mark.usefixtures("shards_of_eight")
def test_a_killed_run_loses_no_shard_and_changes_no_bit(home, tiny, tmp_path, killed, crafted):
    marker = tmp_path / "marker"
    killed(PROGRAM, marker, str(home), str(marker), tiny().model_dump_json())
    bench = Bench(home, device="cpu", images=N)
    assert bench.find_adversarial_set(tiny(), PARTS["pgd"]) is None
    (parts,) = bench.home.adversarial_sets.glob("*.parts")
    assert stored_shards(parts.parent, parts.stem) == {0: 8, 8: 8, 16: 8}

    resumed = bench.craft(tiny(), PARTS["pgd"])
    assert crafted == [24, 32]
    assert list(bench.home.adversarial_sets.iterdir()) == [resumed.path]

    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(home / "checkpoints", elsewhere / "checkpoints")
    whole = Bench(elsewhere, device="cpu", images=N).craft(tiny(), PARTS["pgd"])
    assert crafted == [24, 32, 0, 8, 16, 24, 32]
    assert resumed.spec == whole.spec
    assert resumed.summary.images_digest == whole.summary.images_digest
    again = resumed.summary.forward_passes - whole.summary.forward_passes
    assert again in (2 * 8, 3 * 8)  # shortcuts are tried once a run
    for name, array in stored(whole).items():
        np.testing.assert_array_equal(stored(resumed)[name], array, strict=True)


def test_shards_do_not_show_in_the_result(home, tiny, tmp_path, monkeypatch):
    found = []
    for size in (3, 16, 256):
        monkeypatch.setattr(crafting, "SHARD", size)
        copy = tmp_path / f"of-{size}"
        shutil.copytree(home / "checkpoints", copy / "checkpoints")
        found.append(Bench(copy, device="cpu", images=N).craft(tiny(), PARTS["pgd"]))
    assert found[0].spec.id == found[1].spec.id == found[2].spec.id
    first, *others = map(stored, found)
    for other in others:
        for name in ("indices", "labels", "predictions"):
            np.testing.assert_array_equal(other[name], first[name])
        # A processor may sum a batch of three in another order than one of 256.
        assert (np.abs(other["images"] - first["images"]) > 1e-6).mean() < 1e-3


def test_a_finished_set_is_found(bench, tiny, crafted):
    assert bench.find_adversarial_set(tiny(), PARTS["fgsm"]) is None
    first = bench.craft(tiny(), PARTS["fgsm"])
    assert crafted == [0]
    assert bench.craft(tiny(), PARTS["fgsm"]) == first
    assert bench.find_adversarial_set(tiny(), PARTS["fgsm"]) == first
    assert crafted == [0]


def test_a_damaged_shard_is_crafted_again(bench, tiny, crafted, monkeypatch):
    monkeypatch.setattr(crafting, "SHARD", 10)
    monkeypatch.setattr(crafting, "finish_set", lambda *_: None)
    bench.craft(tiny(), PARTS["fgsm"])
    (path,) = bench.home.adversarial_sets.glob("*/00000020.h5")
    path.write_bytes(path.read_bytes()[:500])
    bench.craft(tiny(), PARTS["fgsm"])
    assert crafted == [0, 10, 20, 30, 20]


def test_seed_count_and_budget_make_other_sets(home, tiny):
    def craft(images=N, seed=0, **parameters):
        bench = Bench(home, device="cpu", images=images, seed=seed)
        return bench.craft(tiny(), PARTS["pgd"].merged(parameters))

    base, seeded = craft(), craft(seed=1)
    assert not np.array_equal(stored(base)["images"], stored(seeded)["images"])
    others = {base.spec.id, seeded.spec.id, craft(images=10).spec.id, craft(eps=0.2).spec.id}
    assert len(others) == 4
    fewer = stored(craft(images=10))["images"]  # the first ones, with the same random starts
    assert (np.abs(fewer - stored(base)["images"][:10]) > 1e-6).mean() < 1e-3


def test_more_images_than_there_are(tiny, home):
    assert Bench(home, device="cpu", images=10**6).count(tiny()) == 500
    assert Bench(home, device="cpu").count(tiny()) == 200  # the demo scale's
    assert Bench(home, device="cpu", images=7).count(tiny()) == 7


def test_the_models_weights_are_left_alone(bench, tiny):
    before = {name: value.clone() for name, value in bench.model(tiny()).state_dict().items()}
    bench.craft(tiny(), PARTS["pgd"])
    for name, value in bench.model(tiny()).state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("pgd", {"steps": "banana"}, "steps of pgd is a whole number, not 'banana'"),
        ("pgd", {"steps": 2.5}, "steps of pgd is a whole number, not 2.5"),
        ("pgd", {"steps": float("nan")}, "steps of pgd is a whole number"),
        ("pgd", {"steps": 0}, "steps is 0"),
        ("pgd", {"relative_step_size": float("inf")}, "is a finite number, not inf"),
        ("pgd", {"loss": 3}, "loss of pgd is a word, not 3"),
        ("pgd", {"loss": "magrin"}, "Did you mean margin"),
        ("pgd", {"banana": 3}, "no parameter of attack pgd called 'banana'"),
        ("pgd", {"eps": 8}, "Did you mean --eps 8/255"),
        ("cw", {"learning_rate": "fast"}, "learning_rate of cw is a finite number"),
        ("cw", {"c": -1}, "c is -1"),
        ("pdg", {}, "Did you mean pgd"),
    ],
)
def test_parameters_that_make_no_sense(name, parameters, words):
    with pytest.raises(UserError) as raised:
        build_attack(Part(name=name, parameters=parameters))
    assert words in str(raised.value)


def test_whole_numbers_do_for_others():
    assert build_attack(Part(name="pgd", parameters={"eps": 1})).eps == 1.0


def test_a_folder_that_cannot_be_written_is_noticed_first(home, tiny, crafted):
    Path(home / "results").touch()
    with pytest.raises(UserError, match="is a file, not a folder"):
        Bench(home, device="cpu", images=N).craft(tiny(), PARTS["pgd"])
    assert crafted == []
