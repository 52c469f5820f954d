"""A twin answers as its model does, in either precision."""

import copy

import pytest
import torch
from attack_toys import random_images, state_of
from engine_toys import CLASSES, anywhere, case_of, filled
from torch import nn

from robustbench_pcl.engine.twin import Twin, twin_of
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES
from robustbench_pcl.losses.criterion import build_criterion
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.models.classifier import build_classifier
from robustbench_pcl.models.ensemble import Ensemble
from robustbench_pcl.models.prelu import PReLU
from robustbench_pcl.specs.base import Part

LABELS = torch.arange(16) % CLASSES
KINDS = [torch.float64, torch.float32]


def passed(model, images, weights):
    """Values, and the gradient of their weighted sum in the images."""
    images = images.clone().requires_grad_(True)
    values = model(images)
    (gradient,) = torch.autograd.grad((values * weights).sum(), images)
    return values.detach(), gradient


@pytest.mark.parametrize("slope", [0.25, 0.1, 0.0, -0.3, 1.5])
@pytest.mark.parametrize("make", [nn.PReLU, PReLU])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_prelu_of_one_slope_becomes_a_leaky_relu_to_the_bit(make, slope, kind):
    model = nn.Sequential(nn.Identity(), make(init=slope)).to(kind).eval()
    images = (2 * random_images(8, 2, 5, 5) - 1).to(kind)
    images[0, 0, 0] = 0.0
    weights = random_images(8, 2, 5, 5, seed=1).to(kind)
    twin = Twin(model, images[:1])
    assert [type(module) for module in twin.model] == [nn.Identity, nn.LeakyReLU]
    for found, expected in zip(
        passed(twin.model, images, weights), passed(model, images, weights), strict=True
    ):
        assert torch.equal(found, expected)


def test_a_prelu_of_many_slopes_stays():
    model = filled(nn.Sequential(nn.Conv2d(2, 4, 3), nn.PReLU(4), nn.Flatten(), nn.Linear(64, 3)))
    images = random_images(5, 2, 6, 6)
    twin = Twin(model.eval(), images[:1])
    assert [type(module) for module in twin.model] == [type(module) for module in model]
    with torch.no_grad():
        model[1].weight.mul_(2)
        assert not torch.allclose(twin.model(images), model(images))
        twin.refresh()
        assert torch.allclose(twin.model(images), model(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_twin_is_frozen_and_in_eval_mode_in_all_its_parts(precision):
    case = case_of("normed_net")
    model = copy.deepcopy(case.model).float().eval()
    model[2].train()
    twin = Twin(model, case.images[:1].float(), precision)
    assert not any(module.training for module in twin.model.modules())
    assert not any(value.requires_grad for value in twin.model.parameters())
    own = {id(value) for value in [*model.parameters(), *model.buffers()]}
    shared = [*twin.model.parameters(), *twin.model.buffers()]
    assert own.isdisjoint(map(id, shared))
    assert model[2].training


@pytest.mark.parametrize("name", ["normed_net", "conv6", "resnet20"])
def test_in_bfloat16_convolutions_are_reduced_and_answers_are_not(name):
    case = case_of(name)
    model, images = copy.deepcopy(case.model).float().eval(), case.images.float()
    before = state_of(model)
    twin, seen = Twin(model, images[:1], "bfloat16"), {nn.Conv2d: set(), nn.Linear: set()}
    for module in twin.model.modules():
        if type(module) in seen:
            module.register_forward_hook(
                lambda module, given, output: seen[type(module)].add((given[0].dtype, output.dtype))
            )
    with torch.no_grad():
        logits, expected = twin.model(images), model(images)
    assert seen == {
        nn.Conv2d: {(torch.bfloat16, torch.bfloat16)},
        nn.Linear: {(torch.float32, torch.float32)},
    }
    assert logits.dtype == torch.float32
    spread = expected.std()
    assert 0 < (logits - expected).abs().max() < 0.1 * spread
    # Logits that were rounded to bfloat16 would have sixteen bits to spare.
    assert not torch.equal(logits.to(torch.bfloat16).float(), logits)
    assert state_of(model) == before


def test_a_twin_in_bfloat16_takes_present_weights_too():
    case = case_of("normed_net")
    model, images = copy.deepcopy(case.model).float().eval(), case.images.float()
    twin = Twin(model, images[:1], "bfloat16")
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(1.3)
        model[1].running_mean.add_(0.2)
        twin.refresh()
        again = Twin(model, images[:1], "bfloat16")
        assert torch.equal(twin.model(images), again.model(images))


def test_a_twin_is_plain_only_if_it_computes_the_very_same_numbers():
    """Not with a convolution that is laid out anew: it sums in another order."""
    conv, norm = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
    images = random_images(3, 2, 6, 6).float()
    last = copy.deepcopy(conv).to(memory_format=torch.channels_last)
    head = (nn.PReLU(), nn.Flatten(), nn.Linear(64, 3))
    plain = [
        Twin(nn.Sequential(*layers).eval(), images[:1], precision).plain
        for *layers, precision in (
            (last, *head, "float32"),
            (nn.Flatten(), nn.Linear(72, 3), "float32"),
            (conv, *head, "float32"),
            (last, norm, *head, "float32"),
            (last, *head, "bfloat16"),
        )
    ]
    assert plain == [True, True, False, False, False]


# The package's own models


def supervised(loss: str, inference: str, members: int = 1, model: str = "resnet20"):
    """A model with prototypes anywhere, in eval mode."""
    taps = () if loss == CROSS_ENTROPY else (3, 5)
    networks = [
        anywhere(build_classifier(model, (2, 8, 8), CLASSES, width=0.15, taps=taps, seed=seed))
        for seed in range(members)
    ]
    classifier = Ensemble(networks) if members > 1 else networks[0]
    with torch.no_grad():
        _, features = classifier.eval().features(torch.zeros(1, 2, 8, 8))
    sizes = {layer: values.shape[1] for layer, values in features.items()}
    criterion = build_criterion(Part(name=loss), sizes, CLASSES, seed=0)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in criterion.parameters():
            value.copy_(0.3 * torch.randn(value.shape, generator=source))
    return SupervisedModel(classifier, criterion, inference).eval()


def possible(loss, inference):
    try:
        return bool(supervised(loss, inference))
    except UserError:
        return False


RULES = ("softmax", "nearest")
ANSWERS = [(loss, rule) for loss in LOSSES for rule in RULES if possible(loss, rule)]


def test_every_loss_and_rule_is_among_them():
    assert {loss for loss, _ in ANSWERS} == set(LOSSES)
    assert {rule for _, rule in ANSWERS} == set(RULES)


@pytest.mark.parametrize(("loss", "inference"), ANSWERS)
def test_a_twin_keeps_the_joint_loss(loss, inference):
    model = supervised(loss, inference).double()
    images = random_images(16, 2, 8, 8)
    for precision, kind, near in (
        ("float32", torch.float64, 1e-10),
        ("float32", torch.float32, 1e-4),
        ("bfloat16", torch.float32, 0.1),
    ):
        own = copy.deepcopy(model).to(kind)
        twin = Twin(own, images[:1].to(kind), precision).model
        with torch.no_grad():
            expected, found = (
                (*one.joint_loss(images.to(kind), LABELS), one(images.to(kind)))
                for one in (own, twin)
            )
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == kind
            assert (one - other).abs().max() <= near * max(other.std().item(), 1e-3)


def test_a_twin_of_several_networks_folds_them_all():
    model = supervised(CROSS_ENTROPY, "softmax", members=2).double()
    images = random_images(6, 2, 8, 8)
    twin = Twin(model, images[:1])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in twin.model.modules())
    with torch.no_grad():
        assert torch.allclose(twin.model(images), model(images), rtol=0, atol=1e-12)


def test_a_slope_is_followed_under_each_name_of_its_layer():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.PReLU()
            self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), self.act)

        def forward(self, images):
            return self.body(images)

    model, images = Twice(), random_images(5, 1, 4, 4).float()
    twin = Twin(model.eval(), images[:1])
    with torch.no_grad():
        model.act.weight.fill_(0.7)
        twin.refresh()
        assert torch.equal(twin.model(images), model(images))
        assert (model(images) < 0).any()


def test_a_twin_is_made_once_and_anew_when_the_model_has_other_parts():
    model = filled(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)))
    images = random_images(5, 1, 4, 4)
    first = twin_of(model.eval(), images[:1], "float32")
    with torch.no_grad():
        model[0].weight.mul_(2)
    again = twin_of(model, images[:1], "float32")
    assert again is first
    assert torch.allclose(again.model(images), model(images), rtol=0, atol=1e-12)
    model[2] = nn.Linear(8, 4).double()
    other = twin_of(model, images[:1], "float32")
    assert other is not first
    assert torch.allclose(other.model(images), model(images), rtol=0, atol=1e-12)
    assert twin_of(model.float(), images[:1].float(), "float32") is not other
