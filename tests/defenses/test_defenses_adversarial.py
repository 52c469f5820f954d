"""Training on adversarial images: Algorithm 1, min-max, mixed batches."""

import math

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

from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.defenses import Standard
from robustbench_pcl.defenses.adversarial import (
    MinMax,
    MixedBatches,
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


def joint_losses(model, images, labels):
    with TargetModel(model), torch.no_grad():
        return model.joint_loss(images, labels)[0]


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
    assert 0.06 < change.max() <= 0.08


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
    assert change.max() <= 0.1
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
    assert largest_change(model.trained_on, grey).max() <= 0.2


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
