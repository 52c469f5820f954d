"""Training schemes: what they make of a batch, and that they leave the model alone meanwhile."""

import copy
import dataclasses
import subprocess
import sys

import pytest
import torch
from defense_toys import (
    CLASSES,
    COUNT,
    generator,
    some_images,
    some_labels,
    total,
    watched,
)
from torch import nn

from robustbench_pcl.data.catalogue import DATASETS
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.defenses.base import Standard
from robustbench_pcl.errors import UserError
from robustbench_pcl.registry import build
from robustbench_pcl.specs.base import Part

TERMS = {
    "none": [],
    "advtrain": ["adversarial_cross_entropy"],
    "madry": [],
    "ross": ["input_gradient"],
    "yu": ["slope", "curvature"],
    "adp": ["entropy", "diversity"],
    "atda": [
        "adversarial_cross_entropy",
        "mean_discrepancy",
        "covariance_discrepancy",
        "margin",
    ],
}
"""What each defence minimises beside the cross-entropy of the batch, or of its clean images."""
CRAFTING = ["advtrain", "madry", "atda"]
RANDOM = ["advtrain", "madry", "yu"]
COUNTED = {"atda": 2 * COUNT}
SINGLE = [name for name in DEFENSES if DEFENSES[name].members == 1]
CASES = [(name, "cross-entropy") for name in DEFENSES] + [(name, "pcl") for name in SINGLE]


@pytest.fixture
def images():
    return some_images()


@pytest.fixture
def labels():
    return some_labels()


def batches_seen(model: nn.Module) -> set[int]:
    return {
        int(module.num_batches_tracked)
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d)
    }


def test_every_defence_is_described_here():
    assert list(TERMS) == list(DEFENSES)


@pytest.mark.parametrize(("name", "loss"), CASES)
def test_a_step_gives_named_terms(name, loss, images, labels):
    defense = DEFENSES[name]()
    step = defense.step(watched(defense, loss), images, labels, generator())
    expected = {"cross_entropy", *TERMS[name], *({"pcl"} if loss == "pcl" else ())}
    if loss == "pcl" and "adversarial_cross_entropy" in TERMS[name]:
        expected.add("adversarial_pcl")
    assert set(step.terms) == expected
    assert all(value.ndim == 0 for value in step.terms.values())
    assert all(value.requires_grad for value in step.terms.values())
    assert all(bool(value.isfinite()) for value in step.terms.values())
    assert step.count == COUNTED.get(name, COUNT)
    assert 0 <= int(step.correct) <= step.count


@pytest.mark.parametrize(("name", "loss"), CASES)
def test_a_step_leaves_the_model_in_train_mode_and_passes_it_once(name, loss, images, labels):
    """Crafting moves no batch-norm statistics, and no image is shown twice."""
    defense = DEFENSES[name]()
    model = watched(defense, loss)
    weights = copy.deepcopy(dict(model.named_parameters()))
    step = defense.step(model, images, labels, generator())
    assert all(module.training for module in model.modules())
    assert all(value.requires_grad for value in model.parameters())
    assert all(value.grad is None for value in model.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in model.named_parameters())
    assert batches_seen(model) == {1}
    sum(step.terms.values()).backward()
    assert all(value.grad is not None for value in model.parameters())


@pytest.mark.parametrize("name", list(DEFENSES))
def test_a_step_follows_from_its_generator(name, images, labels):
    state = torch.random.get_rng_state()
    defense = DEFENSES[name]()
    models = [watched(defense) for _ in range(3)]
    sums = [
        total(defense.step(one, images, labels, generator(seed)).terms.values())
        for one, seed in zip(models, (1, 1, 2), strict=True)
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    first, again, other = (one.trained_on for one in models)
    assert torch.equal(first, again)
    assert sums[0] == sums[1]
    assert torch.equal(first, other) == (name not in RANDOM)
    assert (sums[0] == sums[2]) == (name not in RANDOM)


@pytest.mark.parametrize("name", list(DEFENSES))
def test_adversarial_images_are_crafted_in_eval_mode_before_the_training_pass(name, images, labels):
    defense = DEFENSES[name]()
    model = watched(defense)
    defense.step(model, images, labels, generator())
    modes = [training for training, _ in model.passes]
    assert modes.count(True) == 1
    assert modes[-1]
    assert (False in modes) == (name in CRAFTING)


@pytest.mark.parametrize("name", list(DEFENSES))
def test_what_is_trained_on_is_in_the_pixel_range_and_the_batch_is_left_alone(name, images, labels):
    defense = DEFENSES[name]()
    before, model = images.clone(), watched(defense)
    defense.step(model, images, labels, generator())
    assert model.trained_on.min() >= 0
    assert model.trained_on.max() <= 1
    assert torch.equal(images, before)
    assert not images.requires_grad


@pytest.mark.parametrize("name", list(DEFENSES))
def test_a_batch_of_two_is_enough(name):
    defense = DEFENSES[name]()
    images, labels = some_images(2), some_labels(2)
    step = defense.step(watched(defense, model="conv6"), images, labels, generator())
    assert all(bool(value.isfinite()) for value in step.terms.values())


@pytest.mark.parametrize("name", ["advtrain", "ross", "yu", "atda"])
def test_defences_on_logits_need_a_final_layer(name, images, labels):
    defense = DEFENSES[name]()
    with pytest.raises(UserError, match="contrastive has no final layer"):
        defense.step(watched(defense, "contrastive"), images, labels, generator())


@pytest.mark.parametrize("name", list(DEFENSES))
def test_members_document_their_fields_and_cannot_be_changed(name):
    defense = DEFENSES[name]()
    for entry in dataclasses.fields(defense):
        assert entry.metadata["doc"]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(defense, entry.name, 1)
    assert type(defense).__doc__


@pytest.mark.parametrize("name", [name for name in DEFENSES if name != "none"])
def test_members_name_their_authors_year_and_number(name):
    authors, year, number = DEFENSES[name].citation.rsplit(" ", 2)
    assert authors[0].isupper()
    assert 2010 < int(year) < 2020
    assert 1 <= int(number.strip("[]")) <= 60


def test_one_defence_is_an_ensemble():
    assert {name: DEFENSES[name].members for name in DEFENSES if name not in SINGLE} == {"adp": 3}


# Settings


@pytest.mark.parametrize("dataset", list(DATASETS))
@pytest.mark.parametrize("name", list(DEFENSES))
def test_settings_are_parameters_of_the_defence(name, dataset):
    settings = DEFENSES[name].settings(DATASETS[dataset], 3)
    made = build(DEFENSES, Part(name=name, parameters=settings))
    assert {key: getattr(made, key) for key in settings} == settings


def test_settings_take_budgets_from_the_data_set_and_steps_from_the_scale():
    mnist, cifar = DATASETS["mnist"], DATASETS["cifar10"]
    assert DEFENSES["none"].settings(mnist, 7) == {}
    assert DEFENSES["adp"].settings(mnist, 7) == {}
    assert DEFENSES["advtrain"].settings(mnist, 7) == {"high": 0.5}
    assert DEFENSES["advtrain"].settings(cifar, 7) == {"high": 0.05}
    assert DEFENSES["yu"].settings(cifar, 7) == {"eps": 0.03}
    madry = DEFENSES["madry"].settings(mnist, 5)
    assert madry == {"eps": 0.3, "steps": 5, "relative_step_size": 0.5}


def test_settings_need_no_torch():
    """Recipes are made, and reports written, without it."""
    program = """
import sys
from robustbench_pcl.data.catalogue import DATASETS
from robustbench_pcl.defenses import DEFENSES, adversarial_training
for name in DEFENSES:
    for data in DATASETS.values():
        DEFENSES[name](**DEFENSES[name].settings(data, 3))
adversarial_training.AdversarialTraining()
print(*sorted({"torch", "numpy"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


# The plain one


def test_standard_training_is_on_the_clean_images(images, labels):
    model = watched(Standard())
    step = Standard().step(model, images, labels, generator())
    assert torch.equal(model.trained_on, images)
    assert Standard().memory(CLASSES) is None
    right = (model(images).argmax(dim=1) == labels).sum()
    assert int(step.correct) == int(right)


# What is refused


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part(name="madry", parameters={"eps": 8}), "8/255"),
        (Part(name="madry", parameters={"eps": -0.1}), "negative"),
        (Part(name="madry", parameters={"steps": 0}), "at least one"),
        (Part(name="madry", parameters={"relative_step_size": 0}), "not positive"),
        (Part(name="advtrain", parameters={"weight": 0}), "weight is 0"),
        (Part(name="advtrain", parameters={"high": 16}), "16/255"),
        (Part(name="advtrain", parameters={"low": 0.1}), "no parameter of defense advtrain"),
        (Part(name="ross", parameters={"weight": -1}), "weight is -1"),
        (Part(name="ross", parameters={"wieght": 1}), "Did you mean weight"),
        (Part(name="yu", parameters={"weight": "much"}), "cannot be made"),
        (Part(name="yu", parameters={"eps": 8}), "8/255"),
        (Part(name="adp", parameters={"alpha": 0}), "alpha is 0"),
        (Part(name="adp", parameters={"beta": -1}), "beta is -1"),
        (Part(name="atda", parameters={"eps": 4}), "4/255"),
        (Part(name="atda", parameters={"weight": 0}), "weight is 0"),
        (Part(name="atda", parameters={"rate": 0}), "rate is 0"),
        (Part(name="atda", parameters={"rate": 1.5}), "overshoot"),
        (Part(name="none", parameters={"eps": 0.1}), "no parameter of defense none"),
        (Part(name="mardy"), "Did you mean madry"),
    ],
    ids=str,
)
def test_what_a_defence_cannot_be_built_from(part, message):
    with pytest.raises(UserError, match=message):
        build(DEFENSES, part)


def test_budgets_may_be_fractions():
    parts = [("madry", "eps"), ("yu", "eps"), ("atda", "eps"), ("advtrain", "high")]
    for name, field in parts:
        made = build(DEFENSES, Part(name=name, parameters={field: "8/255"}))
        assert getattr(made, field) == 8 / 255


# The accelerator


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize(("name", "loss"), CASES)
def test_a_step_in_mixed_precision(name, loss, images, labels):
    """As training runs there: the forward pass in bfloat16, the terms in float32."""
    defense = DEFENSES[name]()
    model = watched(defense, loss).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        step = defense.step(model, images.cuda(), labels.cuda(), generator())
    sum(step.terms.values()).backward()
    assert all(value.dtype == torch.float32 for value in step.terms.values())
    assert all(bool(value.isfinite()) for value in step.terms.values())
    assert all(bool(value.grad.isfinite().all()) for value in model.parameters())
