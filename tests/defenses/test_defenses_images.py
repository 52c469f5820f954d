"""Training images are those of the model that is trained, though a copy of it makes them."""

import copy
import gc
import weakref

import pytest
import torch
from defense_toys import (
    CLASSES,
    COUNT,
    RecordingModel,
    assert_alike,
    generator,
    largest_change,
    on_the_model_itself,
    recording_model,
    settled,
    some_images,
    some_labels,
)
from torch import nn

from robustbench_pcl.attacks.base import Goal
from robustbench_pcl.attacks.checks import PROBE
from robustbench_pcl.attacks.fast_model import FastModel, Kind
from robustbench_pcl.defenses import Standard
from robustbench_pcl.defenses.adversarial import (
    MinMax,
    adversarial_images,
    training_attack,
    with_adversarial_images,
)
from robustbench_pcl.losses.criterion import Criterion
from robustbench_pcl.models.classifier import Architecture, Classifier, GlobalAveragePool
from robustbench_pcl.recipe import AdversarialTraining

SIGN_ATTACKS = ["fgsm", "bim", "mim", "pgd"]
ATTACK = training_attack("pgd", 3, 0.5)
EPS = torch.linspace(0.01, 0.2, COUNT).view(-1, 1, 1, 1)


@pytest.fixture
def labels():
    return some_labels()


@pytest.fixture(params=[torch.float64, torch.float32], ids=str)
def trained(request):
    return settled(recording_model(Standard(), "pcl").to(request.param))


def made(model, labels, attack=ATTACK):
    """Clean images in the model's precision, and what training makes of them."""
    images = some_images().to(next(model.parameters()))
    eps = EPS.to(images)
    found = adversarial_images(attack, model, images, Goal(labels), eps=eps, generator=generator())
    assert (largest_change(found, images) <= eps.flatten()).all()
    return images, found


def assert_its_own(model, labels, attack=ATTACK):
    """Training images are those that the model itself would give; returns them."""
    images, found = made(model, labels, attack)
    assert_alike(found, on_the_model_itself(attack, model, images, labels, EPS.to(images)))
    return found


@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_training_images_are_those_that_the_model_itself_would_give(name, trained, labels):
    attack = training_attack(name, 3, 0.5)
    assert (attack.steps, attack.relative_step_size, attack.loss) == (3, 0.5, "joint")
    before = copy.deepcopy(trained.state_dict())
    images, found = made(trained, labels, attack)
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())
    assert all(module.training for module in trained.modules())
    assert (largest_change(found, images) >= EPS.flatten() / 2).all()
    assert_its_own(trained, labels, attack)


def test_training_images_follow_the_model_s_weights(trained, labels):
    """What is kept of a model from step to step has the weights and statistics of each."""
    images = some_images().to(next(trained.parameters()))
    descent, stale = torch.optim.SGD(trained.parameters(), lr=0.1), None
    for _ in range(3):
        found = assert_its_own(trained, labels)
        assert stale is None or ((found - stale).abs() > 1e-3).double().mean() > 0.01
        stale = found
        assert all(module.training for module in trained.modules())
        assert all(value.requires_grad for value in trained.parameters())
        descent.zero_grad()
        sum(trained.step(images, labels).terms.values()).backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        descent.step()


def test_of_each_batch_a_few_images_are_passed_through_the_model_itself(trained, labels):
    """Those are compared with the copy's answers; all others are the copy's alone."""
    for _ in range(3):
        trained.passes.clear()
        made(trained, labels)
        assert {training for training, _ in trained.passes} == {False}
        assert sum(len(images) for _, images in trained.passes) == PROBE


@pytest.mark.parametrize("reduced", [False, True])
def test_training_images_are_made_in_the_precision_of_autocast(reduced, labels):
    model, images = recording_model(Standard(), "pcl"), some_images()
    attack, eps = training_attack("fgsm", 1, 1.0), torch.full((COUNT, 1, 1, 1), 0.1)
    plain = on_the_model_itself(attack, model, images, labels, eps)
    with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        found = adversarial_images(
            attack, model, images, Goal(labels), eps=eps, generator=generator()
        )
    assert found.dtype == torch.float32
    assert largest_change(found, images).max() <= 0.1
    assert (((found - plain).abs() > 1e-6).double().mean() > 1e-3) == reduced


# Models whose copy could be another model


class PreActivation(nn.Module):
    """A block of He et al. (2016b): what goes in is normalised, and added as it is."""

    def __init__(self, channels):
        super().__init__()
        self.before, self.between = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, images):
        found = self.first(self.before(images).relu())
        return images + self.second(self.between(found).relu())


def pre_activation() -> RecordingModel:
    """The stem's output goes to a batch normalisation, and around it."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = [nn.Conv2d(3, 6, 3, padding=1), PreActivation(6), PreActivation(6)]
        pool = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), GlobalAveragePool())
        architecture = Architecture([*layers, pool], nn.Linear(6, CLASSES))
        classifier = Classifier(architecture, (), [0.5] * 3, [0.25] * 3)
    criterion = Criterion({"name": "cross-entropy"}, {}, CLASSES, seed=0)
    return settled(RecordingModel(classifier, criterion, "softmax", None).double().train())


def test_the_copy_of_a_pre_activation_network_answers_as_it_does():
    model, images = pre_activation().eval(), some_images().double()
    copied = FastModel(model, Kind("float32", channels_last=True))
    assert not copied.exact  # what can be folded, is: the first convolution of each block
    with torch.no_grad():
        expected, found = model(images), copied.model(images)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    kept = [module for module in copied.model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(kept) == 3


@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_a_pre_activation_network_is_trained_against_itself(name, labels):
    model = pre_activation()
    for _ in range(2):  # with a new copy, and with the one that is kept
        model.passes.clear()
        assert_its_own(model, labels, training_attack(name, 3, 0.5))
        assert sum(len(images) for _, images in model.passes) == PROBE  # a copy did the rest
        with torch.no_grad():
            for value in model.parameters():
                value.add_(0.01 * torch.randn(value.shape, generator=generator(4)).to(value))


@pytest.mark.parametrize("defense", [MinMax(eps=0.1, steps=3), None], ids=["madry", "Algorithm 1"])
def test_what_a_pre_activation_network_is_trained_on_raises_its_own_loss(defense, labels):
    model, images = pre_activation(), some_images().double()
    if defense is None:
        against = AdversarialTraining(attack="pgd", low=0.1, high=0.1, steps=3)
        found = with_adversarial_images(against, model, images, labels, generator())[0][COUNT:]
    else:
        defense.step(model, images, labels, generator())
        found = model.trained_on
    model.eval()
    with torch.no_grad():
        before, after = (model.joint_loss(each, labels)[0] for each in (images, found))
    assert (after > before).double().mean() > 0.95


def test_a_layer_that_is_replaced_or_watched_meanwhile_is_followed(labels):
    model = pre_activation()
    first = assert_its_own(model, labels)
    model.classifier.layers[3][1] = nn.Tanh()
    second = assert_its_own(model, labels)
    model.classifier.layers[0].register_forward_hook(lambda _module, _given, found: found.sin())
    third = assert_its_own(model, labels)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_a_change_that_is_in_no_layer_is_noticed(labels):
    """A copy that was made before answers otherwise on the few images, and is not taken."""
    model = settled(recording_model(Standard(), "pcl").double())
    with torch.no_grad():
        for loss in model.criterion.losses.values():
            loss.prototypes.normal_(generator=generator(2))
    found = []
    for by_distance in (False, True, False):
        model.by_distance = by_distance
        found.append(assert_its_own(model, labels))
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


class Dimming(nn.Module):
    """A layer that does another thing for bright images: what follows what cannot be told."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, images):
        return self.layer(images * 0.5 if images.amax() > 9 else images)


def test_a_model_without_a_copy_makes_its_images_itself(labels):
    model = pre_activation()
    model.classifier.layers[0] = Dimming(model.classifier.layers[0])
    for _ in range(2):
        with pytest.warns(UserWarning, match="without a fast copy.*structure cannot be told"):
            assert_its_own(model, labels)


def test_nothing_is_kept_of_a_model_that_is_gone(labels):
    model = recording_model(Standard())
    against = AdversarialTraining(attack="fgsm")
    with_adversarial_images(against, model, some_images(), labels, generator())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
