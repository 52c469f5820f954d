"""Models put together from recipes and from checkpoints."""

import pytest
import torch
from torch import nn

from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import Schedule
from robustbench_pcl.store.checkpoints import load_arrays, save_checkpoint
from robustbench_pcl.training.build import (
    arrays_of,
    as_trained,
    build_model,
    restore,
)

NO_FINAL_LAYER = {
    "loss": {"name": "triplet", "margin": 3.0, "alpha": 0.5, "weight": 1.0},
    "inference": "nearest",
}


def some_images() -> torch.Tensor:
    return torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_checkpoint_s_model_has_its_weights_channels_last_in_eval_mode(trained):
    checkpoint = trained("ours")
    model = restore(checkpoint)
    arrays = load_arrays(checkpoint.path)
    assert {name: value.tobytes() for name, value in arrays_of(model).items()} == {
        name: value.tobytes() for name, value in arrays.items()
    }
    assert not any(module.training for module in model.modules())
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert convolutions
    for module in convolutions:
        assert module.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_restored_model_answers_with_the_bits_of_the_trained_one(run, tiny, tmp_path):
    recipe = tiny(schedule=Schedule(epochs=1, batch_size=128))
    model = run(recipe).execute().model
    checkpoint = save_checkpoint(tmp_path, recipe, "0" * 12, arrays_of(model))
    restored = restore(checkpoint)
    assert torch.equal(restored(some_images()), model(some_images()))
    strides = {name: value.stride() for name, value in model.named_parameters()}
    assert {name: value.stride() for name, value in restored.named_parameters()} == strides


def test_how_a_class_is_decided_is_no_matter_of_the_weights(trained, tiny):
    checkpoint = trained("ours")
    logits = [
        restore(checkpoint.standing_for(tiny("ours", inference=inference)))(some_images())
        for inference in ("softmax", "nearest")
    ]
    assert not torch.allclose(*logits)


def test_the_recipe_s_seed_decides_the_fresh_weights(tiny):
    one, again, other = (build_model(tiny("ours", seed=seed)).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["classifier.head.weight"], other["classifier.head.weight"])


def test_an_ensemble_s_members_start_differently_and_answer_together(tiny):
    model = build_model(tiny(members=3))
    with torch.no_grad():
        logits = model.classifier.member_logits(some_images())
        assert logits.shape == (3, 8, 10)
        assert not torch.allclose(logits[0], logits[1])
        torch.testing.assert_close(model(some_images()).exp(), logits.softmax(dim=2).mean(dim=0))


def test_an_ensemble_has_no_layers_to_supervise(tiny):
    with pytest.raises(UserError, match="is an ensemble, and the loss pcl acts on one network"):
        build_model(tiny("ours", members=3))


def test_a_loss_without_cross_entropy_goes_without_a_final_layer(tiny):
    model = build_model(tiny("ours", **NO_FINAL_LAYER))
    assert isinstance(model.classifier.head, nn.Identity)
    assert model(some_images()).shape == (8, 10)  # distances to the class means


def test_a_model_is_trained_with_its_loss_s_own_way_to_decide_a_class(tiny):
    recipe = tiny("ours")
    asked = recipe.changed(name="ours-nearest", inference="nearest")
    assert as_trained(asked) == recipe == as_trained(recipe)
    metric = tiny("ours", **NO_FINAL_LAYER)
    assert as_trained(metric) == metric == as_trained(metric.changed(inference="softmax"))


@pytest.mark.parametrize("change", ["missing", "added", "resized"])
def test_another_model_s_weights_are_refused(tiny, tmp_path, change):
    arrays = arrays_of(build_model(tiny()))
    if change == "missing":
        del arrays["classifier.head.bias"]
    elif change == "added":
        arrays["classifier.head.spare"] = arrays["classifier.head.bias"]
    else:
        arrays["classifier.head.bias"] = arrays["classifier.head.bias"][:3]
    checkpoint = save_checkpoint(tmp_path, tiny(), "0" * 12, arrays)
    with pytest.raises(UserError, match=r"another model's weights: classifier.head") as raised:
        restore(checkpoint)
    assert str(checkpoint.path) in raised.value.cause
