"""Training in bfloat16 and in float32."""

import pytest
import torch
from torch import nn

from robustbench_pcl.data.batches import DeviceSplit
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.recipe import Schedule
from robustbench_pcl.store.measurements import load_trainings
from robustbench_pcl.training import loop, update
from robustbench_pcl.training.loop import Run
from robustbench_pcl.training.update import Update, in_bfloat16

PRECISIONS = ["mixed", "float32"]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def native(monkeypatch):
    """Any processor computes bfloat16, if slowly."""
    monkeypatch.setattr(update, "computes_bfloat16", lambda device: True)


@pytest.fixture
def short(tiny):
    def make(name, precision, **changes):
        schedule = Schedule(epochs=3, batch_size=64, learning_rate=0.05, precision=precision)
        return tiny(name, schedule=schedule, start=None, **changes)

    return make


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["ours", "ours-pgd"])
def test_an_interrupted_training_ends_with_the_same_bits(
    short, tmp_path, monkeypatch, name, precision
):
    recipe, step, calls = short(name, precision), Update.__call__, []
    expected = Bench(tmp_path / "whole", device="cpu").train(recipe)
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1)

    def stop_at_the_sixth(*arguments):
        calls.append(arguments)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(Update, "__call__", stop_at_the_sixth)
    bench = Bench(tmp_path / "parts", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        bench.train(recipe)
    assert bench.train(recipe).record.weights == expected.record.weights
    assert len(calls) == 6 + 8  # four batches an epoch: the second began again


def test_the_record_says_what_was_computed_in(short, tmp_path, monkeypatch):
    bench = Bench(tmp_path, device="cpu")
    mixed, exact = (short("softmax", precision) for precision in PRECISIONS)
    weights = [bench.train(recipe).record.weights for recipe in (mixed, exact)]
    assert weights[0] != weights[1]
    records = {
        record.recipe.schedule.precision: record for record in load_trainings(bench.home.results)
    }
    assert {name: record.precision for name, record in records.items()} == {
        "mixed": "bfloat16",
        "float32": "float32",
    }
    for record in records.values():
        assert record.history[-1]["training_accuracy"] > 0.3  # chance is 0.1


def test_without_native_bfloat16_mixed_is_float32(short, monkeypatch):
    assert in_bfloat16(short("softmax", "mixed").schedule, CPU)
    assert not in_bfloat16(short("softmax", "float32").schedule, CPU)
    monkeypatch.setattr(update, "computes_bfloat16", lambda device: False)
    assert not in_bfloat16(short("softmax", "mixed").schedule, CPU)


@pytest.mark.parametrize(
    ("precision", "kind"), [("mixed", torch.bfloat16), ("float32", torch.float32)]
)
def test_only_layers_are_computed_in_bfloat16(short, tmp_path, precision, kind):
    recipe, kinds = short("ours", precision), {"layers": set(), "losses": set()}
    bench = Bench(tmp_path, device="cpu")
    run = Run(recipe, bench.dataset("digits"), CPU, tmp_path / "partial", bench.progress)
    split = DeviceSplit(run.dataset.train, CPU, 64)
    state = run._begin(split, None)
    for module in state.model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda _m, _i, output: kinds["layers"].add(output.dtype))
    for loss in state.model.criterion.losses.values():
        loss.register_forward_hook(
            lambda _m, given, output: kinds["losses"].update((given[0].dtype, output.dtype))
        )
    state.model.train()
    images, labels, _ = next(split.epoch(64, torch.Generator()))
    Update(recipe)(state, images, labels, torch.Generator())
    assert kinds == {"layers": {kind}, "losses": {torch.float32}}
    assert all(value.dtype == torch.float32 for value in state.model.parameters())


@pytest.mark.parametrize(("loss", "passes"), [("pcl", 1), ("contrastive", 2)])
def test_features_of_all_images_are_computed_only_for_a_loss_that_calibrates(
    short, tmp_path, monkeypatch, loss, passes
):
    features, counts = Run._features, []
    monkeypatch.setattr(
        Run, "_features", lambda run, *given: counts.append(given[2]) or features(run, *given)
    )
    rule = "nearest" if loss == "contrastive" else "softmax"
    recipe = short("ours", "float32", loss=Part(name=loss), inference=rule)
    Bench(tmp_path, device="cpu").train(recipe)
    assert counts == [loop.INITIAL_FEATURES, recipe.train_images][:passes]
