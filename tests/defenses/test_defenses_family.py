"""Every defence, from one list: what it makes of a batch, and that it leaves the model alone."""

import copy
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
from defense_toys import (
    CLASSES,
    COUNT,
    generator,
    recording_model,
    some_images,
    some_labels,
    total,
)
from pydantic import ValidationError
from torch import nn

from robustbench_pcl.data.datasets import DATASETS
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.errors import UserError


class Facts(NamedTuple):
    """What each defence minimises beside the cross-entropy of the batch, or of its clean images;
    whether it makes adversarial images; whether anything is random; images in the training pass."""

    terms: tuple[str, ...] = ()
    adversarial: bool = False
    random: bool = False
    passed: int = COUNT


FACTS = {
    "none": Facts(),
    "advtrain": Facts(("adversarial_cross_entropy",), adversarial=True, random=True),
    "madry": Facts(adversarial=True, random=True),
    "ross": Facts(("input_gradient",)),
    "yu": Facts(("slope", "curvature"), random=True, passed=2 * COUNT),
    "adp": Facts(("entropy", "diversity")),
    "atda": Facts(
        (
            "adversarial_cross_entropy",
            "mean_discrepancy",
            "covariance_discrepancy",
            "margin",
        ),
        adversarial=True,
        passed=2 * COUNT,
    ),
    "ibp": Facts(("worst_case_cross_entropy",)),
}
ALL = pytest.mark.parametrize("name", FACTS)
CASES = [(name, "cross-entropy") for name in FACTS] + [(name, "pcl") for name in FACTS]
CASES.remove(("adp", "pcl"))  # an ensemble has no features


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


def test_the_list_is_the_family():
    assert list(FACTS) == list(DEFENSES)
    assert {name: DEFENSES[name].members for name in FACTS if DEFENSES[name].members > 1} == {
        "adp": 3
    }
    assert {name for name in FACTS if DEFENSES[name].makes_adversarial_images} == {
        name for name, facts in FACTS.items() if facts.adversarial
    }


@pytest.mark.parametrize(("name", "loss"), CASES)
def test_a_step_gives_named_terms_and_passes_the_model_once_in_train_mode(
    name, loss, images, labels
):
    """Making adversarial images moves no batch-norm statistics, and no image is shown twice."""
    defense, facts = DEFENSES[name](), FACTS[name]
    model = recording_model(defense, loss)
    weights, before = copy.deepcopy(dict(model.named_parameters())), images.clone()
    step = defense.step(model, images, labels, generator())

    expected = {"cross_entropy", *facts.terms, *({"pcl"} if loss == "pcl" else ())}
    if loss == "pcl" and "adversarial_cross_entropy" in facts.terms:
        expected.add("adversarial_pcl")
    assert set(step.terms) == expected
    assert all(value.ndim == 0 and value.isfinite() for value in step.terms.values())
    assert step.count == (2 * COUNT if name == "atda" else COUNT)
    assert 0 <= int(step.correct) <= step.count

    assert all(module.training for module in model.modules())
    assert all(value.requires_grad for value in model.parameters())
    assert all(value.grad is None for value in model.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in model.named_parameters())
    assert batches_seen(model) == {1}
    modes = [training for training, _ in model.passes]
    assert modes[-1]
    assert modes.count(True) == 1
    assert (False in modes) == facts.adversarial
    assert len(model.trained_on) == facts.passed
    assert model.trained_on.min() >= 0
    assert model.trained_on.max() <= 1
    assert torch.equal(images, before)
    assert not images.requires_grad

    sum(step.terms.values()).backward()
    assert all(value.grad is not None for value in model.parameters())


@ALL
def test_a_step_follows_from_its_generator(name, images, labels):
    state = torch.random.get_rng_state()
    defense = DEFENSES[name]()
    models = [recording_model(defense) for _ in range(3)]
    sums = [
        total(defense.step(one, images, labels, generator(seed)).terms.values())
        for one, seed in zip(models, (1, 1, 2), strict=True)
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    first, again, other = (one.trained_on for one in models)
    assert torch.equal(first, again)
    assert sums[0] == sums[1]
    assert torch.equal(first, other) == (not FACTS[name].random)
    assert (sums[0] == sums[2]) == (not FACTS[name].random)


@ALL
def test_a_batch_of_two_is_enough(name):
    defense = DEFENSES[name]()
    images, labels = some_images(2), some_labels(2)
    step = defense.step(recording_model(defense, model="conv6"), images, labels, generator())
    assert all(bool(value.isfinite()) for value in step.terms.values())


@pytest.mark.parametrize("name", ["advtrain", "ross", "yu", "atda", "ibp"])
def test_a_defence_on_logits_needs_a_final_layer(name, images, labels):
    defense = DEFENSES[name]()
    model = recording_model(defense, "contrastive")
    with torch.no_grad():  # before, no class is nearer than another, and no gradient is known
        model.criterion.initialise(model.classifier.features(images)[1], labels)
    with pytest.raises(UserError, match="contrastive has no final layer"):
        defense.step(model, images, labels, generator())


def test_standard_training_is_on_the_clean_images(images, labels):
    defense = DEFENSES["none"]()
    model = recording_model(defense)
    step = defense.step(model, images, labels, generator())
    assert torch.equal(model.trained_on, images)
    assert defense.memory(CLASSES) is None
    assert int(step.correct) == int((model(images).argmax(dim=1) == labels).sum())


# The configuration


@ALL
def test_a_defence_describes_its_fields_and_cannot_be_changed(name):
    defense = DEFENSES[name]()
    for key, (_, description) in DEFENSES[name].parameters().items():
        assert description
        with pytest.raises(ValidationError, match="frozen"):
            setattr(defense, key, 1)
    assert DEFENSES.read(defense.dump()) == defense
    if name != "none":
        work, _, number = defense.citation.partition(" [")
        authors, year = work.rsplit(" ", 1)
        assert authors[0].isupper()
        assert 2010 < int(year) < 2020
        assert (name == "ibp") == (not number)  # the paper does not cite it
        assert name == "ibp" or 1 <= int(number.strip("]")) <= 60


def test_defences_need_no_torch():
    """Recipes are made, and reports written, without it."""
    program = """
import sys
from robustbench_pcl.data.datasets import DATASETS
from robustbench_pcl.defenses import DEFENSES
for name in DEFENSES:
    for data in DATASETS.values():
        DEFENSES.configure(name, DEFENSES[name].settings(data, 3)).dump()
print(*sorted({"torch", "numpy"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@ALL
def test_settings_are_parameters_of_the_defence(name):
    for data in DATASETS.values():
        settings = DEFENSES[name].settings(data, 3)
        assert settings.items() <= DEFENSES.configure(name, settings).dump().items()


def test_settings_take_budgets_from_the_data_set_and_steps_from_the_scale():
    mnist, cifar = DATASETS["mnist"], DATASETS["cifar10"]
    assert DEFENSES["none"].settings(mnist, 7) == DEFENSES["adp"].settings(mnist, 7) == {}
    assert DEFENSES["advtrain"].settings(mnist, 7) == {"high": 0.5}
    assert DEFENSES["advtrain"].settings(cifar, 7) == {"high": 0.05}
    assert DEFENSES["yu"].settings(cifar, 7) == DEFENSES["ibp"].settings(cifar, 7) == {"eps": 0.03}
    assert DEFENSES["ibp"].settings(mnist, 7) == {"eps": 0.1}  # at most, not MNIST's 0.3
    madry = DEFENSES["madry"].settings(mnist, 5)
    assert madry == {"eps": 0.3, "steps": 5, "relative_step_size": 0.5}


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("mardy", {}, "Did you mean madry"),
        ("none", {"eps": 0.1}, "no parameter of none called 'eps'"),
        ("madry", {"eps": 8}, "8/255"),
        ("madry", {"eps": -0.1}, "negative"),
        ("madry", {"steps": 0}, "steps"),
        ("madry", {"relative_step_size": 0}, "relative_step_size"),
        ("advtrain", {"weight": 0}, "weight"),
        ("advtrain", {"high": 16}, "16/255"),
        ("advtrain", {"low": 0.1}, "no parameter of advtrain"),
        ("ross", {"weight": -1}, "weight"),
        ("ross", {"wieght": 1}, "Did you mean weight"),
        ("yu", {"weight": "much"}, "weight"),
        ("yu", {"eps": 8}, "8/255"),
        ("adp", {"alpha": 0}, "alpha"),
        ("adp", {"beta": -1}, "beta"),
        ("atda", {"eps": 4}, "4/255"),
        ("atda", {"weight": 0}, "weight"),
        ("atda", {"rate": 0}, "rate"),
        ("atda", {"rate": 1.5}, "rate"),
        ("ibp", {"eps": 8}, "8/255"),
        ("ibp", {"kappa": 1.1}, "kappa"),
        ("ibp", {"ramp": -0.1}, "ramp"),
    ],
)
def test_a_defence_that_cannot_be_is_refused(name, parameters, message):
    with pytest.raises(UserError, match=message):
        DEFENSES.configure(name, parameters)


@pytest.mark.parametrize(
    ("name", "field"),
    [("madry", "eps"), ("yu", "eps"), ("atda", "eps"), ("ibp", "eps"), ("advtrain", "high")],
)
def test_budgets_may_be_fractions(name, field):
    assert DEFENSES.configure(name, {field: "8/255"}).dump()[field] == 8 / 255


# The accelerator


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize(("name", "loss"), CASES)
def test_a_step_in_mixed_precision_has_finite_terms_in_float32(name, loss, images, labels):
    """As training runs there: the forward pass in bfloat16, the terms in float32."""
    defense = DEFENSES[name]()
    model = recording_model(defense, loss).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        step = defense.step(model, images.cuda(), labels.cuda(), generator())
    sum(step.terms.values()).backward()
    assert all(value.dtype == torch.float32 for value in step.terms.values())
    assert all(bool(value.isfinite()) for value in step.terms.values())
    assert all(bool(value.grad.isfinite().all()) for value in model.parameters())
