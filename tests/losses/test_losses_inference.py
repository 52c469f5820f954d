"""The two rules of inference: the final layer's logits, and the nearest anchor (Eq. 7)."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from loss_toys import ANCHORED, CLASSES, DIMENSION, ON_IMAGES, ON_PAIRS, batch, placed, square
from torch import Tensor

from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import CROSS_ENTROPY
from robustbench_pcl.losses.criterion import Criterion, build_criterion
from robustbench_pcl.losses.inference import inference_rule
from robustbench_pcl.specs.base import Part

NO_LOGITS = torch.empty(0)


def criterion_of(name: str, size: float = 1.0) -> Criterion:
    """The loss at layers 7 and 3, in that order, with its parameters anywhere."""
    return Criterion({7: placed(name, size), 3: placed(name, 2 * size)}, name)


def nearest(criterion: Criterion, features: dict[int, Tensor]) -> Tensor:
    return inference_rule("nearest", criterion).logits(criterion, NO_LOGITS, features)


@pytest.mark.parametrize("name", ANCHORED)
def test_nearest_answers_with_the_nearest_anchor_of_the_deepest_layer(name):
    criterion = criterion_of(name)
    features, _ = batch(200)
    anchors = criterion.losses["7"].anchors()
    expected = [
        min(range(CLASSES), key=lambda label, at=feature: square(at - anchors[label]))
        for feature in features
    ]
    logits = nearest(criterion, {3: -features, 7: features})
    assert logits.argmax(dim=1).tolist() == expected
    assert set(expected) == set(range(CLASSES))


@pytest.mark.parametrize("name", ANCHORED)
def test_nearest_s_logits_are_squared_distances_in_units_of_those_between_anchors(name):
    criterion, (features, _) = criterion_of(name), batch()
    anchors = criterion.losses["7"].anchors()
    apart = [square(one - other) for one, other in itertools.permutations(anchors, 2)]
    unit = sum(apart) / len(apart)
    logits = nearest(criterion, {7: features})
    for feature, found in zip(features, logits, strict=True):
        expected = [-16 * square(feature - anchor) / unit for anchor in anchors]
        assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_on_its_own_anchor_an_image_is_16_above_the_others_at_any_size(size):
    criterion = criterion_of("center")
    loss = criterion.losses["7"]
    with torch.no_grad():
        loss.centres.copy_(torch.eye(CLASSES, DIMENSION) - 0.5)
        loss.centres[CLASSES - 1] = (1 - 5**0.5) / 4 - 0.5  # as far from the others as they are
        loss.centres.mul_(size)
    logits = nearest(criterion, {7: loss.centres.detach()})
    expected = 16 * torch.eye(CLASSES, dtype=torch.float64) - 16
    assert torch.allclose(logits, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", [1.0, 1e3])
def test_cross_entropy_on_nearest_s_logits_has_a_gradient_at_any_size(size):
    """In the features' own units it is exactly zero in float32 where they are large."""
    criterion = criterion_of("center", size).float()
    features = criterion.losses["7"].centres.detach().clone().requires_grad_(True)
    labels = torch.arange(CLASSES)
    (found,) = torch.autograd.grad(
        F.cross_entropy(nearest(criterion, {7: features}), labels), features
    )
    assert (found.norm(dim=1) * size > 1e-8).all()
    raw = -torch.cdist(features, features.detach()).square()
    (lost,) = torch.autograd.grad(F.cross_entropy(raw, labels), features)
    assert bool((lost == 0).all()) == (size == 1e3)


@pytest.mark.parametrize("name", ANCHORED)
def test_nearest_s_gradient_reaches_the_features_and_no_anchor(name):
    criterion, (features, labels) = criterion_of(name), batch()
    features.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda given: nearest(criterion, {7: given}), features)
    F.cross_entropy(nearest(criterion, {7: features}), labels).backward()
    assert features.grad.abs().amax(dim=1).min() > 0
    assert all(value.grad is None for value in criterion.parameters())


@pytest.mark.parametrize("name", ["center", "pcl", *ON_PAIRS])
def test_anchors_that_coincide_make_no_nan(name):
    criterion = build_criterion(Part(name=name), {7: DIMENSION}, CLASSES, seed=0)
    logits = nearest(criterion, {7: batch()[0].float()})
    assert logits.isfinite().all()
    assert F.softmax(logits, dim=1).isfinite().all()


@pytest.mark.parametrize("name", [CROSS_ENTROPY, *ON_IMAGES])
def test_softmax_answers_with_the_final_layer_s_logits(name):
    criterion = build_criterion(Part(name=name), {7: DIMENSION}, CLASSES, seed=0)
    logits = torch.arange(10.0).view(2, CLASSES)
    assert inference_rule("softmax", criterion).logits(criterion, logits, {}) is logits


@pytest.mark.parametrize(
    ("rule", "loss", "message"),
    [
        ("nearest", "cross-entropy", r"Plain cross-entropy gives the classes no points"),
        ("nearest", "deep-softmax", r"DeepSoftmax gives the classes no points"),
        ("softmax", "contrastive", r"trained with contrastive has no final layer"),
        ("softmax", "triplet", r"trained with triplet has no final layer"),
        ("nearst", "pcl", r"no inference rule called 'nearst'\. Did you mean nearest"),
    ],
)
def test_a_rule_refuses_what_it_cannot_answer_by(rule, loss, message):
    criterion = build_criterion(Part(name=loss), {7: DIMENSION}, CLASSES, seed=0)
    with pytest.raises(UserError, match=message):
        inference_rule(rule, criterion)
