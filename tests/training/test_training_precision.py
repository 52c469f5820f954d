"""Training in bfloat16 and in float32."""

import pytest
import torch
from torch import nn

from robustbench_pcl.data.batches import DeviceSplit
from robustbench_pcl.recipe import Schedule
from robustbench_pcl.training import step
from robustbench_pcl.training.build import build_model
from robustbench_pcl.training.step import RunState, Update, in_bfloat16, optimisers

KINDS = {"mixed": torch.bfloat16, "float32": torch.float32}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def native(monkeypatch):
    """Any processor computes bfloat16, if slowly."""
    monkeypatch.setattr(step, "computes_bfloat16", lambda device: True)


def short(tiny, name, precision):
    return tiny(name, schedule=Schedule(epochs=2, batch_size=64, precision=precision))


def test_both_precisions_learn_and_give_other_weights(run, tiny):
    states = [run(short(tiny, "softmax", precision)).execute() for precision in KINDS]
    weights = [state.model.classifier.head.weight for state in states]
    assert not torch.equal(*weights)
    for state in states:
        assert state.history[-1]["training_accuracy"] > 0.3  # chance is 0.1


def test_without_native_bfloat16_mixed_is_float32(monkeypatch):
    mixed, exact = (Schedule(epochs=1, precision=precision) for precision in KINDS)
    assert in_bfloat16(mixed, CPU)
    assert not in_bfloat16(exact, CPU)
    monkeypatch.setattr(step, "computes_bfloat16", lambda device: False)
    assert not in_bfloat16(mixed, CPU)


@pytest.mark.parametrize("precision", KINDS)
def test_only_layers_are_computed_in_bfloat16(tiny, digits, precision):
    recipe, kinds = short(tiny, "ours", precision), {"layers": set(), "losses": set()}
    model = build_model(recipe, digits.mean, digits.std)
    state = RunState(model.train(), *optimisers(model, recipe.schedule))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda _m, _i, output: kinds["layers"].add(output.dtype))
    for loss in model.criterion.losses.values():
        loss.register_forward_hook(
            lambda _m, given, output: kinds["losses"].update((given[0].dtype, output.dtype))
        )
    split = DeviceSplit(digits.train, CPU, 64)
    images, labels, _ = next(split.epoch(64, torch.Generator()))
    Update(recipe)(state, images, labels, torch.Generator())
    assert kinds == {"layers": {KINDS[precision]}, "losses": {torch.float32}}
    assert all(value.dtype == torch.float32 for value in model.parameters())
