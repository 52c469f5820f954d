"""A fast model answers as its model does, in either precision."""

import copy

import pytest
import torch
from attack_models import (
    CLASSES,
    IMAGES,
    Aliased,
    anywhere,
    case_of,
    difference,
    fast_of,
    filled,
    follows,
    normed_net,
)
from attack_toys import random_images, state_of
from torch import nn

from robustbench_pcl.attacks.fast_model import FastModel, Kind
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES
from robustbench_pcl.losses.criterion import Criterion
from robustbench_pcl.models.classifier import Ensemble, build_classifier
from robustbench_pcl.models.plain import PReLU
from robustbench_pcl.models.supervised import SupervisedModel

# Activations


@pytest.mark.parametrize("slope", [0.25, 0.0, -0.3, 1.5])
@pytest.mark.parametrize("make", [nn.PReLU, PReLU])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32], ids=str)
def test_a_prelu_of_one_slope_becomes_a_leaky_relu_to_the_bit(make, slope, kind):
    model = nn.Sequential(nn.Identity(), make(init=slope)).to(kind).eval()
    images = (2 * random_images(8, 2, 5, 5) - 1).to(kind)
    images[0, 0, 0] = 0.0
    weights = random_images(8, 2, 5, 5, seed=1).to(kind)
    fast = fast_of(model)
    assert [type(module) for module in fast.model] == [nn.Identity, nn.LeakyReLU]
    outcomes = []
    for network in (model, fast.model):
        given = images.clone().requires_grad_(True)
        values = network(given)
        outcomes.append((values, *torch.autograd.grad((values * weights).sum(), given)))
    for found, expected in zip(*outcomes, strict=True):
        assert torch.equal(found, expected)


def test_a_prelu_of_many_slopes_stays():
    body = (nn.Conv2d(2, 4, 3, padding=1), nn.PReLU(4), nn.Flatten(), nn.Linear(144, 3))
    model = filled(nn.Sequential(*body)).eval()
    fast = fast_of(model)
    assert [type(module) for module in fast.model] == [type(module) for module in model]
    with torch.no_grad():
        model[1].weight.mul_(2)
    assert difference(model, fast) > 1e-3
    assert follows(fast, model)
    assert difference(model, fast) < 1e-12


def test_a_slope_is_followed_under_each_name_of_its_layer():
    model = filled(Aliased()).eval()
    fast = fast_of(model)
    with torch.no_grad():
        model.act.weight.fill_(0.7)
    assert follows(fast, model)
    assert fast.model.act is fast.model.body[2]
    assert difference(model, fast) < 1e-12


# Precision


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_fast_model_is_frozen_and_in_eval_mode_in_all_its_parts(precision):
    model = copy.deepcopy(case_of("normed_net").model).float().eval()
    model[2].train()
    fast = fast_of(model, precision)
    assert not any(module.training for module in fast.model.modules())
    assert not any(value.requires_grad for value in fast.model.parameters())
    own = {id(value) for value in [*model.parameters(), *model.buffers()]}
    shared = [*fast.model.parameters(), *fast.model.buffers()]
    assert own.isdisjoint(map(id, shared))
    assert model[2].training


@pytest.mark.parametrize("name", ["normed_net", "conv6", "resnet20"])
def test_in_bfloat16_convolutions_are_reduced_and_logits_are_not(name):
    case = case_of(name)
    model, images = copy.deepcopy(case.model).float().eval(), case.images.float()
    before, fast = state_of(model), fast_of(model, "bfloat16")
    seen = {nn.Conv2d: set(), nn.Linear: set()}
    for module in fast.model.modules():
        if type(module) in seen:
            module.register_forward_hook(
                lambda module, given, output: seen[type(module)].add((given[0].dtype, output.dtype))
            )
    with torch.no_grad():
        logits, expected = fast.model(images), model(images)
    assert seen == {
        nn.Conv2d: {(torch.bfloat16, torch.bfloat16)},
        nn.Linear: {(torch.float32, torch.float32)},
    }
    assert logits.dtype == torch.float32
    assert 0 < (logits - expected).abs().max() < 0.1 * expected.std()
    # Logits that were rounded to bfloat16 would have sixteen bits to spare.
    assert not torch.equal(logits.to(torch.bfloat16).float(), logits)
    assert state_of(model) == before


def test_in_bfloat16_weights_are_followed_too():
    model, images = normed_net().float().eval(), IMAGES.float()
    fast = fast_of(model, "bfloat16")
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(1.3)
        model[1].running_mean.add_(0.2)
    assert follows(fast, model)
    again = fast_of(copy.deepcopy(model), "bfloat16")
    assert difference(again.model, fast, images) == 0


def test_a_fast_model_is_exact_only_if_it_computes_the_very_same_numbers():
    """Not with a convolution that is laid out anew: it sums in another order."""
    conv = nn.Conv2d(2, 4, 3)
    last = copy.deepcopy(conv).to(memory_format=torch.channels_last)
    head = (nn.PReLU(), nn.Flatten(), nn.Linear(64, 3))
    exact = [
        fast_of(nn.Sequential(*layers).eval(), *kind).exact
        for *layers, kind in (
            (last, *head, ("float32", True)),
            (conv, *head, ("float32", False)),
            (nn.Flatten(), nn.Linear(72, 3), ("float32", True)),
            (conv, *head, ("float32", True)),
            (last, *head, ("float32", False)),
            (last, nn.BatchNorm2d(4), *head, ("float32", True)),
            (last, *head, ("bfloat16", True)),
        )
    ]
    assert exact == [True, True, True, False, False, False, False]


def test_a_fast_model_of_weights_that_learn_says_nothing():
    """Made outside an attack, where they are not frozen."""
    torch.set_warn_always(True)
    try:
        FastModel(normed_net().eval(), Kind("float32", channels_last=True))
    finally:
        torch.set_warn_always(False)


# The package's own models


def supervised(loss: str, inference: str, members: int = 1) -> SupervisedModel:
    """A model with prototypes anywhere, in eval mode, for images (2, 8, 8)."""
    layers = () if loss == CROSS_ENTROPY else (3, 5)
    networks = [
        anywhere(
            build_classifier(
                "resnet20", (2, 8, 8), CLASSES, width=0.15, feature_layers=layers, seed=seed
            )
        )
        for seed in range(members)
    ]
    classifier = Ensemble(networks) if members > 1 else networks[0]
    with torch.no_grad():
        _, features = classifier.eval().features(torch.zeros(1, 2, 8, 8))
    sizes = {layer: values.shape[1] for layer, values in features.items()}
    criterion = Criterion(LOSSES.configure(loss).dump(), sizes, CLASSES, seed=0)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in criterion.parameters():
            value.copy_(0.3 * torch.randn(value.shape, generator=source))
    return SupervisedModel(classifier, criterion, inference).eval()


def possible(loss: str, inference: str) -> bool:
    try:
        return bool(supervised(loss, inference))
    except UserError:
        return False


DECIDED = [
    (loss, rule) for loss in LOSSES for rule in ("softmax", "nearest") if possible(loss, rule)
]


@pytest.mark.parametrize(("loss", "inference"), DECIDED)
def test_a_fast_model_keeps_the_joint_loss(loss, inference):
    model, labels = supervised(loss, inference).double(), torch.arange(16) % CLASSES
    images = random_images(16, 2, 8, 8)
    for precision, kind, near in (
        ("float32", torch.float64, 1e-10),
        ("float32", torch.float32, 1e-4),
        ("bfloat16", torch.float32, 0.1),
    ):
        own = copy.deepcopy(model).to(kind)
        fast = fast_of(own, precision).model
        with torch.no_grad():
            expected, found = (
                (*one.joint_loss(images.to(kind), labels), one(images.to(kind)))
                for one in (own, fast)
            )
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == kind
            assert (one - other).abs().max() <= near * max(other.std().item(), 1e-3)


def test_every_loss_and_rule_is_among_them():
    assert {loss for loss, _ in DECIDED} == set(LOSSES)
    assert {rule for _, rule in DECIDED} == {"softmax", "nearest"}


def test_all_networks_of_an_ensemble_are_folded():
    model, images = (
        supervised(CROSS_ENTROPY, "softmax", members=2).double(),
        random_images(6, 2, 8, 8),
    )
    fast = fast_of(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.model.modules())
    assert difference(model, fast, images) < 1e-12
