"""Adversarial training images, and the defences that are nothing but images and labels."""

import copy
import gc
import weakref

import pytest
import torch
from defense_toys import (
    COUNT,
    LAST_BITS,
    Watched,
    generator,
    largest_change,
    some_images,
    some_labels,
    watched,
)

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Goal
from robustbench_pcl.attacks.sign_gradient import SignGradientAttack
from robustbench_pcl.defenses.adversarial_training import (
    AdversarialTraining,
    build_adversarial_training,
)
from robustbench_pcl.defenses.base import Standard
from robustbench_pcl.defenses.crafting import answers, craft, training_attack
from robustbench_pcl.defenses.min_max import MinMax
from robustbench_pcl.engine import twin
from robustbench_pcl.engine.twin import Twin
from robustbench_pcl.engine.victim import Victim
from robustbench_pcl.errors import UserError
from robustbench_pcl.specs.base import Part

SIGN_ATTACKS = [name for name in ATTACKS if issubclass(ATTACKS[name], SignGradientAttack)]


@pytest.fixture
def model() -> Watched:
    return watched(Standard(), "pcl")


@pytest.fixture
def twins(monkeypatch):
    """The copies that training images are crafted on."""
    made = []

    def spy(*given):
        made.append(Twin(*given))
        return made[-1]

    monkeypatch.setattr(twin, "Twin", spy)
    return made


@pytest.fixture
def images():
    return some_images()


@pytest.fixture
def labels():
    return some_labels()


def joint_losses(model, images, labels):
    with Victim(model), torch.no_grad():
        return model.joint_loss(images, labels)[0]


# Crafting


@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_every_sign_attack_can_be_trained_against(name, model, images, labels):
    attack = training_attack(name, 3, 0.5)
    assert (attack.steps, attack.relative_step_size, attack.loss) == (3, 0.5, "joint")
    budgets = torch.linspace(0.01, 0.2, COUNT).view(-1, 1, 1, 1)
    before = copy.deepcopy(model.state_dict())
    adversarial = craft(attack, model, images, Goal(labels), eps=budgets, generator=generator())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    change = largest_change(adversarial, images)
    assert (change <= budgets.flatten() + LAST_BITS).all()
    assert (change >= budgets.flatten() / 2).all()


@pytest.fixture(params=[torch.float64, torch.float32], ids=str)
def trained(request, model):
    """A model in train mode whose batch normalisation has statistics of its own."""
    model = model.to(request.param)
    with torch.no_grad():
        for seed in range(3):
            model(some_images().to(request.param) ** (seed + 1))
        for norm in model.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.weight.uniform_(0.5, 1.5, generator=generator(7))
                norm.bias.uniform_(-0.5, 0.5, generator=generator(8))
    model.passes.clear()
    return model


def crafted_plainly(attack, model, images, labels, budgets):
    """On the model itself, in eval mode."""
    noise = torch.zeros_like(images)
    if attack.random_start:
        drawn = torch.rand(images.shape, generator=generator(), dtype=torch.float32)
        noise = (drawn * 2 - 1).to(images)
    with Victim(model) as victim:
        return attack.within(victim, images, Goal(labels), budgets, noise)


def near(images):
    return 1e-12 if images.dtype == torch.float64 else 1e-6


@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_training_images_are_those_that_the_model_itself_would_give(name, trained, labels, twins):
    attack, images = training_attack(name, 3, 0.5), some_images().to(next(trained.parameters()))
    budgets = torch.linspace(0.01, 0.2, COUNT).view(-1, 1, 1, 1).to(images)
    found = craft(attack, trained, images, Goal(labels), eps=budgets, generator=generator())
    (twin,) = twins
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in twin.model.modules())
    assert [len(passed) for _, passed in trained.passes] == [1]  # what follows what
    assert all(module.training for module in trained.modules())
    expected = crafted_plainly(attack, trained, images, labels, budgets)
    # In float32, a gradient that is nearly zero may have another sign where it is rounded.
    differs = ((found - expected).abs() > near(images)).double().mean()
    assert differs == 0 if images.dtype == torch.float64 else differs < 1e-3


def test_training_images_follow_the_model_s_weights(trained, labels, twins):
    """One twin serves all steps, and has the weights and statistics of each."""
    attack, images = training_attack("pgd", 3, 0.5), some_images().to(next(trained.parameters()))
    budgets = torch.full((COUNT, 1, 1, 1), 0.1).to(images)
    descent, stale = torch.optim.SGD(trained.parameters(), lr=0.1), None
    for _ in range(3):
        found = craft(attack, trained, images, Goal(labels), eps=budgets, generator=generator())
        expected = crafted_plainly(attack, trained, images, labels, budgets)
        differs = ((found - expected).abs() > near(images)).double().mean()
        assert differs == 0 if images.dtype == torch.float64 else differs < 1e-3
        assert stale is None or ((found - stale).abs() > 1e-3).double().mean() > 0.01
        stale = found
        assert all(module.training for module in trained.modules())
        assert all(value.requires_grad for value in trained.parameters())
        descent.zero_grad()
        sum(trained.step(images, labels).terms.values()).backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        descent.step()
    assert len(twins) == 1


def test_under_autocast_training_images_are_crafted_in_its_precision(model, images, labels, twins):
    attack = training_attack("fgsm", 1, 1.0)
    budgets = torch.full((COUNT, 1, 1, 1), 0.1)
    for reduced in (False, True, True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            found = craft(attack, model, images, Goal(labels), eps=budgets, generator=generator())
        assert found.dtype == torch.float32
        assert largest_change(found, images).max() <= 0.1 + LAST_BITS
    assert [twin.precision for twin in twins] == ["float32", "bfloat16"]


def test_a_twin_goes_with_its_model(images, labels):
    """Nothing is kept of a model that is gone."""
    model = watched(Standard())
    craft(
        training_attack("fgsm", 1, 1.0),
        model,
        images,
        Goal(labels),
        eps=torch.full((COUNT, 1, 1, 1), 0.1),
        generator=generator(),
    )
    kept = weakref.ref(model)
    assert model in twin._TWINS
    del model
    gc.collect()
    assert kept() is None


def test_answers_are_the_model_s_in_eval_mode(model, images):
    found = answers(model, images)
    assert not found.requires_grad
    assert model.training
    with torch.no_grad():
        assert torch.equal(found, model.eval()(images))
        assert not torch.allclose(found, model.train()(images), atol=1e-3)


# Algorithm 1


@pytest.mark.parametrize("attack", SIGN_ATTACKS)
def test_adversarial_training_adds_an_adversarial_half(attack, model, images, labels, twins):
    mixing = AdversarialTraining(attack=attack, steps=2, low=0.02, high=0.08)
    state = torch.random.get_rng_state()
    batch, theirs = mixing.mixed(model, images, labels, generator())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    (twin,) = twins
    assert [len(passed) for _, passed in twin.model.passes[-2:]] == [COUNT, COUNT]
    assert not any(training for training, _ in model.passes + twin.model.passes)
    assert torch.equal(batch[:COUNT], images)
    assert torch.equal(theirs, torch.cat([labels, labels]))
    assert not batch.requires_grad
    assert batch.min() >= 0
    assert batch.max() <= 1
    change = largest_change(batch[COUNT:], images)
    assert change.max() <= 0.08 + LAST_BITS
    assert change.max() > 0.06


def test_each_image_has_a_budget_of_its_own_from_the_interval(model, labels):
    """FGSM moves a pixel off the bounds by exactly its image's budget."""
    images = 0.5 + 0.01 * torch.rand((COUNT, 3, 8, 8), generator=generator())
    mixing, drawn = AdversarialTraining(low=0.1, high=0.3), []
    for seed in range(5):
        batch, _ = mixing.mixed(model, images, labels, generator(seed))
        change = (batch[COUNT:] - images).abs().flatten(1)
        budget = change.amax(dim=1)
        moved = change > 0
        assert moved.double().mean() > 0.99
        assert torch.allclose(change, budget[:, None] * moved, atol=LAST_BITS)
        drawn.append(budget)
    budgets = torch.cat(drawn)
    assert len(budgets.unique()) > 190
    assert budgets.min() >= 0.1 - LAST_BITS
    assert budgets.max() <= 0.3 + LAST_BITS
    assert budgets.min() < 0.11
    assert budgets.max() > 0.29
    assert budgets.mean().item() == pytest.approx(0.2, abs=0.015)


def test_equal_ends_are_one_budget(model, labels):
    images = torch.full((COUNT, 3, 8, 8), 0.4)
    batch, _ = AdversarialTraining(low=0.1, high=0.1).mixed(model, images, labels, generator())
    change = largest_change(batch[COUNT:], images)
    assert torch.allclose(change, torch.full((COUNT,), 0.1), atol=LAST_BITS)


def test_the_adversarial_half_raises_the_joint_loss(model, images, labels):
    mixing = AdversarialTraining(attack="pgd", steps=5, relative_step_size=0.5)
    batch, _ = mixing.mixed(model, images, labels, generator())
    clean, adversarial = (joint_losses(model, half, labels) for half in batch.chunk(2))
    assert (adversarial > clean).double().mean() > 0.9


def test_a_recipe_names_the_attack_and_its_parameters():
    parameters = {"steps": 3, "relative_step_size": 0.5, "low": "2/255", "high": 0.1}
    made = build_adversarial_training(Part(name="pgd", parameters=parameters))
    assert made == AdversarialTraining("pgd", 3, 0.5, 2 / 255, 0.1)
    assert build_adversarial_training(Part(name="fgsm")) == AdversarialTraining()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part(name="cw"), "no L-infinity budget"),
        (Part(name="pdg"), "Did you mean pgd"),
        (Part(name="pgd", parameters={"attack": "fgsm"}), "no parameter of training attack pgd"),
        (Part(name="pgd", parameters={"stpes": 3}), "Did you mean steps"),
        (Part(name="pgd", parameters={"low": 0.2, "high": 0.1}), "above high"),
        (Part(name="pgd", parameters={"high": 8}), "8/255"),
        (Part(name="pgd", parameters={"steps": 0}), "at least one"),
        (Part(name="pgd", parameters={"steps": "many"}), "cannot be made"),
        (Part(name="pgd", parameters={"relative_step_size": -1.0}), "not positive"),
    ],
    ids=str,
)
def test_what_adversarial_training_cannot_be_built_from(part, message):
    with pytest.raises(UserError, match=message):
        build_adversarial_training(part)


# Min-max


def test_min_max_training_is_on_adversarial_images_only(model, images, labels):
    step = MinMax(eps=0.1, steps=3).step(model, images, labels, generator())
    batch = model.trained_on
    assert batch.shape == images.shape
    change = largest_change(batch, images)
    assert change.min() > 0.05
    assert change.max() <= 0.1 + LAST_BITS
    clean, adversarial = (joint_losses(model, half, labels) for half in (images, batch))
    assert (adversarial > clean).double().mean() > 0.9
    expected = model.step(batch, labels)
    assert torch.allclose(sum(step.terms.values()), sum(expected.terms.values()))


def test_min_max_starts_at_random(model, images, labels):
    """With steps too small to matter, what is left is the start: uniform in the ball."""
    grey = torch.full_like(images, 0.5)
    MinMax(eps=0.2, steps=1, relative_step_size=1e-9).step(model, grey, labels, generator())
    share = (model.trained_on - grey) / 0.2
    assert share.std().item() == pytest.approx(3**-0.5, abs=0.02)
    assert share.mean().item() == pytest.approx(0, abs=0.02)
    assert share.abs().max() <= 1 + 1e-5
