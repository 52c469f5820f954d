"""Training on adversarial images: how they are made, Algorithm 1, min-max, mixed batches."""

import copy
import gc
import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from defense_toys import (
    COUNT,
    LAST_BITS,
    RecordingModel,
    generator,
    largest_change,
    recording_model,
    some_images,
    some_labels,
    tiny,
    tiny_batch,
    total,
)

from robustbench_pcl.attacks.base import Goal
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.defenses import Standard
from robustbench_pcl.defenses.adversarial import (
    MinMax,
    MixedBatches,
    adversarial_images,
    answers,
    training_attack,
    with_adversarial_images,
)
from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import AdversarialTraining

SIGN_ATTACKS = ["fgsm", "bim", "mim", "pgd"]
MIXED = MixedBatches(high=0.2)


@pytest.fixture
def model() -> RecordingModel:
    return recording_model(Standard(), "pcl")


@pytest.fixture
def images():
    return some_images()


@pytest.fixture
def labels():
    return some_labels()


def training(attack="fgsm", **changes) -> AdversarialTraining:
    return AdversarialTraining(attack=attack, **changes)


def budgets(*, like) -> torch.Tensor:
    return torch.linspace(0.01, 0.2, COUNT).view(-1, 1, 1, 1).to(like)


def joint_losses(model, images, labels):
    with TargetModel(model), torch.no_grad():
        return model.joint_loss(images, labels)[0]


# How they are made


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


def on_the_model_itself(attack, model, images, labels, eps):
    """In eval mode, without a fast copy."""
    noise = torch.zeros_like(images)
    if attack.random_start:
        drawn = torch.rand(images.shape, generator=generator(), dtype=torch.float32)
        noise = (drawn * 2 - 1).to(images)
    with TargetModel(model) as target:
        return attack.attack_with_budgets(target, images, Goal(labels), eps, noise)


def assert_alike(found, expected):
    """In float32, a gradient that is nearly zero may have another sign where it is rounded."""
    near = 1e-12 if found.dtype == torch.float64 else 1e-6
    differs = ((found - expected).abs() > near).double().mean()
    assert differs == 0 if found.dtype == torch.float64 else differs < 1e-3


@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_training_images_are_those_that_the_model_itself_would_give(name, trained, labels):
    attack, images = training_attack(name, 3, 0.5), some_images().to(next(trained.parameters()))
    assert (attack.steps, attack.relative_step_size, attack.loss) == (3, 0.5, "joint")
    before, eps = copy.deepcopy(trained.state_dict()), budgets(like=images)
    found = adversarial_images(
        attack, trained, images, Goal(labels), eps=eps, generator=generator()
    )
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())
    assert all(module.training for module in trained.modules())
    change = largest_change(found, images)
    assert (change <= eps.flatten() + LAST_BITS).all()
    assert (change >= eps.flatten() / 2).all()
    assert_alike(found, on_the_model_itself(attack, trained, images, labels, eps))


def test_training_images_follow_the_model_s_weights(trained, labels):
    """What is kept of a model from step to step has the weights and statistics of each."""
    attack, images = training_attack("pgd", 3, 0.5), some_images().to(next(trained.parameters()))
    eps = torch.full((COUNT, 1, 1, 1), 0.1).to(images)
    descent, stale = torch.optim.SGD(trained.parameters(), lr=0.1), None
    for _ in range(3):
        found = adversarial_images(
            attack, trained, images, Goal(labels), eps=eps, generator=generator()
        )
        assert_alike(found, on_the_model_itself(attack, trained, images, labels, eps))
        assert stale is None or ((found - stale).abs() > 1e-3).double().mean() > 0.01
        stale = found
        assert all(module.training for module in trained.modules())
        assert all(value.requires_grad for value in trained.parameters())
        descent.zero_grad()
        sum(trained.step(images, labels).terms.values()).backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        descent.step()


@pytest.mark.parametrize("reduced", [False, True])
def test_training_images_are_made_in_the_precision_of_autocast(reduced, model, images, labels):
    attack, eps = training_attack("fgsm", 1, 1.0), torch.full((COUNT, 1, 1, 1), 0.1)
    plain = on_the_model_itself(attack, model, images, labels, eps)
    with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        found = adversarial_images(
            attack, model, images, Goal(labels), eps=eps, generator=generator()
        )
    assert found.dtype == torch.float32
    assert largest_change(found, images).max() <= 0.1 + LAST_BITS
    assert (((found - plain).abs() > 1e-6).double().mean() > 1e-3) == reduced


def test_nothing_is_kept_of_a_model_that_is_gone(images, labels):
    model = recording_model(Standard())
    with_adversarial_images(training(), model, images, labels, generator())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_answers_are_the_model_s_in_eval_mode(model, images):
    found = answers(model, images)
    assert not found.requires_grad
    assert model.training
    with torch.no_grad():
        assert torch.equal(found, model.eval()(images))
        assert not torch.allclose(found, model.train()(images), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "message"), [("cw", "no L-infinity budget"), ("pdg", "Did you mean pgd")]
)
def test_an_attack_without_a_budget_cannot_be_trained_against(name, message):
    with pytest.raises(UserError, match=message):
        training_attack(name, 1, 1.0)


# Algorithm 1


@pytest.mark.parametrize("attack", SIGN_ATTACKS)
def test_adversarial_training_adds_an_adversarial_half(attack, model, images, labels):
    state = torch.random.get_rng_state()
    batch, theirs = with_adversarial_images(
        training(attack, steps=2, low=0.02, high=0.08), model, images, labels, generator()
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert not any(training for training, _ in model.passes)
    assert torch.equal(batch[:COUNT], images)
    assert torch.equal(theirs, torch.cat([labels, labels]))
    assert not batch.requires_grad
    assert batch.min() >= 0
    assert batch.max() <= 1
    change = largest_change(batch[COUNT:], images)
    assert 0.06 < change.max() <= 0.08 + LAST_BITS


def test_each_image_has_a_budget_of_its_own_from_the_interval(model, labels):
    """FGSM moves a pixel off the bounds by exactly its image's budget."""
    images = 0.5 + 0.01 * torch.rand((COUNT, 3, 8, 8), generator=generator())
    drawn = []
    for seed in range(5):
        batch, _ = with_adversarial_images(
            training(low=0.1, high=0.3), model, images, labels, generator(seed)
        )
        change = (batch[COUNT:] - images).abs().flatten(1)
        budget = change.amax(dim=1)
        moved = change > 0
        assert moved.double().mean() > 0.99
        assert torch.allclose(change, budget[:, None] * moved, atol=LAST_BITS)
        drawn.append(budget)
    found = torch.cat(drawn)
    assert len(found.unique()) > 190
    assert 0.1 - LAST_BITS <= found.min() < 0.11
    assert 0.29 < found.max() <= 0.3 + LAST_BITS
    assert found.mean().item() == pytest.approx(0.2, abs=0.015)


def test_equal_ends_are_one_budget(model, labels):
    images = torch.full((COUNT, 3, 8, 8), 0.4)
    batch, _ = with_adversarial_images(
        training(low=0.1, high=0.1), model, images, labels, generator()
    )
    change = largest_change(batch[COUNT:], images)
    assert torch.allclose(change, torch.full((COUNT,), 0.1), atol=LAST_BITS)


def test_the_adversarial_half_raises_the_joint_loss(model, images, labels):
    against = training("pgd", steps=5, relative_step_size=0.5)
    batch, _ = with_adversarial_images(against, model, images, labels, generator())
    clean, adversarial = (joint_losses(model, half, labels) for half in batch.chunk(2))
    assert (adversarial > clean).double().mean() > 0.9


# Min-max (Madry et al.)


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


def test_min_max_training_starts_at_random(model, images, labels):
    """With steps too small to matter, what is left is the start: uniform in the ball."""
    grey = torch.full_like(images, 0.5)
    MinMax(eps=0.2, steps=1, relative_step_size=1e-9).step(model, grey, labels, generator())
    share = (model.trained_on - grey) / 0.2
    assert share.std().item() == pytest.approx(3**-0.5, abs=0.02)
    assert share.mean().item() == pytest.approx(0, abs=0.02)
    assert share.abs().max() <= 1 + 1e-5


# Mixed batches (Kurakin et al.)


@pytest.mark.parametrize(("count", "replaced"), [(2, 1), (5, 2), (12, 6)])
def test_half_of_the_batch_is_replaced_and_counts_three_tenths(count, replaced):
    images, labels = tiny_batch(count)
    model = tiny(MIXED)
    step = MIXED.step(model, images, labels, generator())
    batch = model.trained_on
    kept = count - replaced
    assert len(batch) == step.count == count
    assert torch.equal(batch[:kept], images[:kept])
    assert ((batch[kept:] - images[kept:]).flatten(1).abs().amax(dim=1) > 0).all()
    losses = [
        float(F.cross_entropy(model.classifier(batch[i : i + 1]), labels[i : i + 1]).detach())
        for i in range(count)
    ]
    divisor = kept + 0.3 * replaced
    clean, adversarial = sum(losses[:kept]) / divisor, 0.3 * sum(losses[kept:]) / divisor
    assert step.terms["cross_entropy"].item() == pytest.approx(clean)
    assert step.terms["adversarial_cross_entropy"].item() == pytest.approx(adversarial)
    assert total(step.terms.values()) == pytest.approx(clean + adversarial)


def test_the_attack_is_one_step_towards_the_least_likely_class():
    images, labels = tiny_batch()
    model = tiny(MIXED)
    MIXED.step(model, images, labels, generator())
    weight = model.classifier.head.weight.detach()
    for image, adversarial in zip(images[6:], model.trained_on[6:], strict=True):
        probabilities = model.classifier(image[None]).detach().softmax(dim=1)[0]
        wanted = F.one_hot(probabilities.argmin(), len(probabilities))
        # The gradient of -log p_wanted, followed down.
        towards = -((probabilities - wanted) @ weight).sign()
        change = (adversarial - image).flatten()
        assert torch.allclose(change, change.abs().max() * towards)


def test_the_attack_does_not_use_the_true_label():
    images, labels = tiny_batch()
    seen = []
    for given in (labels, labels.flip(0)):
        model = tiny(MIXED)
        MIXED.step(model, images, given, generator())
        seen.append(model.trained_on)
    assert torch.equal(*seen)


def test_budgets_are_half_a_normal_distribution_cut_at_two_deviations():
    """Their distribution function maps them to uniform levels."""
    images = torch.full((20_000, 1, 2, 2), 0.5, dtype=torch.float64)
    model = tiny(MIXED)
    MIXED.step(model, images, some_labels(20_000), generator())
    budgets = (model.trained_on[10_000:] - 0.5).abs().flatten(1).amax(dim=1)
    assert budgets.max() <= 0.2 + 1e-6
    assert budgets.max() > 0.199
    levels = torch.erf(budgets / 0.1 / math.sqrt(2)) / math.erf(2 / math.sqrt(2))
    ideal = (torch.arange(10_000) + 0.5) / 10_000
    # The Kolmogorov-Smirnov statistic exceeds 1.95 / sqrt(n) once in a thousand samples.
    assert (levels.sort().values - ideal).abs().max() < 1.95 / 100
