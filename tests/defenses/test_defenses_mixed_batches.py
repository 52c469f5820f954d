"""Kurakin et al.'s batches: how many images are replaced, by what, and what they count."""

import math

import pytest
import torch
import torch.nn.functional as F
from defense_toys import generator, some_labels, tiny, tiny_batch, total

from robustbench_pcl.defenses.mixed_batches import MixedBatches

DEFENSE = MixedBatches(high=0.2)


@pytest.mark.parametrize(("count", "replaced"), [(2, 1), (5, 2), (12, 6)])
def test_half_of_the_batch_is_replaced_and_counts_three_tenths(count, replaced):
    images, labels = tiny_batch(count)
    model = tiny(DEFENSE)
    step = DEFENSE.step(model, images, labels, generator())
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
    model = tiny(DEFENSE)
    DEFENSE.step(model, images, labels, generator())
    weight = model.classifier.head.weight.detach()
    for image, adversarial in zip(images[6:], model.trained_on[6:], strict=True):
        probabilities = model.classifier(image[None]).detach().softmax(dim=1)[0]
        wanted = F.one_hot(probabilities.argmin(), len(probabilities))
        # The gradient of -log p_wanted, walked down.
        towards = -((probabilities - wanted) @ weight).sign()
        change = (adversarial - image).flatten()
        assert torch.allclose(change, change.abs().max() * towards)


def test_the_attack_does_not_use_the_true_label():
    images, labels = tiny_batch()
    seen = []
    for given in (labels, labels.flip(0)):
        model = tiny(DEFENSE)
        DEFENSE.step(model, images, given, generator())
        seen.append(model.trained_on)
    assert torch.equal(*seen)


def test_budgets_are_half_a_normal_distribution_cut_at_two_deviations():
    """Their distribution function maps them to uniform levels."""
    images = torch.full((20_000, 1, 2, 2), 0.5, dtype=torch.float64)
    model = tiny(DEFENSE)
    DEFENSE.step(model, images, some_labels(20_000), generator())
    budgets = (model.trained_on[10_000:] - 0.5).abs().flatten(1).amax(dim=1)
    assert budgets.max() <= 0.2 + 1e-6
    assert budgets.max() > 0.199
    levels = torch.erf(budgets / 0.1 / math.sqrt(2)) / math.erf(2 / math.sqrt(2))
    ideal = (torch.arange(10_000) + 0.5) / 10_000
    # The Kolmogorov-Smirnov statistic exceeds 1.95 / sqrt(n) once in a thousand samples.
    assert (levels.sort().values - ideal).abs().max() < 1.95 / 100
