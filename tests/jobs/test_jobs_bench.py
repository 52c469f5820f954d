"""The Python API: a folder of artefacts that are found or made."""

import shutil

import pytest
import torch

from robustbench_pcl.errors import UserError
from robustbench_pcl.jobs import bench as module
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.specs.base import Part
from robustbench_pcl.store.checkpoints import save_checkpoint
from robustbench_pcl.training.assemble import arrays_of

FGSM = Part(name="fgsm", parameters={"eps": 0.1})


@pytest.fixture
def mine(tiny_home, tiny, tmp_path):
    """A checkpoint's file outside any home."""
    path = tmp_path / "mine.safetensors"
    shutil.copy(Bench(tiny_home, device="cpu").checkpoint(tiny()).path, path)
    return path


def test_from_a_recipe_to_a_number(tiny, tiny_home, tmp_path):
    shutil.copytree(tiny_home / "checkpoints", tmp_path / "checkpoints")
    bench = Bench(tmp_path, device="cpu", images=20)
    clean, attacked = bench.measure(tiny("ours")), bench.measure(tiny("ours"), attack=FGSM)
    assert clean.n == attacked.n == 20
    assert attacked.attack.parameters["eps"] == 0.1
    logits = bench.model(tiny("ours"))(torch.rand(3, 1, 8, 8))
    assert logits.shape == (3, 10)


def test_a_checkpoint_from_a_file_stands_for_its_recipe(mine, tiny, tmp_path):
    bench = Bench(tmp_path / "home", device="cpu", images=10)
    assert bench.checkpoint(tiny()) is None
    assert bench.open(mine) == tiny()
    assert bench.checkpoint(tiny()).path == mine
    assert bench.train(tiny()).path == mine
    bench.measure(tiny(), attack=FGSM)
    assert not (tmp_path / "home" / "checkpoints").exists()
    assert bench.open(mine) == tiny()  # once more does no harm


def test_two_files_of_one_recipe_are_not_mistaken_for_each_other(mine, tiny, tmp_path):
    bench = Bench(tmp_path, device="cpu")
    arrays = arrays_of(bench_model(mine))
    arrays["classifier.head.bias"] = arrays["classifier.head.bias"] + 1
    other = save_checkpoint(tmp_path, tiny(), "0123456789ab", arrays).path
    bench.open(mine)
    with pytest.raises(UserError, match="different weights of one recipe"):
        bench.open(other)


def bench_model(path):
    bench = Bench(path.parent / "home", device="cpu")
    return bench.model(bench.open(path))


def test_few_models_are_kept_in_memory(tiny, tiny_home, monkeypatch):
    monkeypatch.setattr(module, "MODELS_KEPT", 2)
    bench = Bench(tiny_home, device="cpu")
    first = bench.model(tiny())
    assert bench.model(tiny()) is first
    for name in ("ours", "ours-pgd"):
        bench.model(tiny(name))
        assert len(bench._models) <= 2
    assert bench.model(tiny()) is not first


def test_a_checkpoint_of_other_data_is_another_checkpoint(tiny, tiny_home):
    bench = Bench(tiny_home, device="cpu")
    digest = bench.dataset("digits").train.digest
    assert bench.checkpoint(tiny()).record.checkpoint == tiny().id(digest)
    assert tiny().id(digest) != tiny().id("other")
    assert tiny(scale="paper").id(digest) == tiny().id(digest)
    assert tiny("ours").id(digest) != tiny("ours", start=None).id(digest)
