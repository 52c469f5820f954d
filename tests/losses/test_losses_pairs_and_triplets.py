"""The contrastive and the triplet loss against Eq. 14-15, pair by pair and triplet by triplet."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from loss_toys import batch, placed, square
from torch import Tensor

UNIT = 2.5


def eq_14(first: Tensor, second: Tensor, same: bool, margin: float) -> float:
    squared = square((first - second) / UNIT)
    return squared / 2 if same else max(0.0, margin - math.sqrt(squared)) ** 2 / 2


def eq_15(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> float:
    near, far = square((anchor - positive) / UNIT), square((anchor - negative) / UNIT)
    return max(0.0, margin + near - far)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


# Over all pairs and triplets of a batch


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_the_contrastive_loss_is_the_mean_of_eq_14_over_all_pairs(margin):
    loss, (features, labels) = placed("contrastive", margin=margin), batch(size=UNIT)
    loss.scale.fill_(UNIT)
    images = list(zip(features, labels.tolist(), strict=True))
    expected = [
        eq_14(one, other, a == b, margin)
        for (one, a), (other, b) in itertools.combinations(images, 2)
    ]
    found = loss(features, labels).item()
    assert found == pytest.approx(mean(expected), rel=1e-12)
    assert 0 in expected
    apart = F.pdist(features / UNIT)
    first, second = torch.triu_indices(len(labels), len(labels), offset=1)
    same = (labels[first] == labels[second]).double()
    written = same * apart**2 / 2 + (1 - same) * (margin - apart).clamp(min=0) ** 2 / 2
    assert found == pytest.approx(written.mean().item(), rel=1e-12)


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_the_triplet_loss_is_the_mean_of_eq_15_over_all_triplets(margin):
    loss, (features, labels) = placed("triplet", margin=margin), batch(size=UNIT)
    loss.scale.fill_(UNIT)
    triplets = [
        (a, p, n)
        for a, p, n in itertools.product(range(len(labels)), repeat=3)
        if a != p and labels[a] == labels[p] != labels[n]
    ]
    expected = [eq_15(*features[list(triplet)], margin) for triplet in triplets]
    found = loss(features, labels).item()
    assert found == pytest.approx(mean(expected), rel=1e-12)
    assert 0 in expected
    torchs = F.triplet_margin_with_distance_loss(
        *(features[list(column)] / UNIT for column in zip(*triplets, strict=True)),
        distance_function=lambda one, other: (one - other).square().sum(dim=1),
        margin=margin,
    )
    assert found == pytest.approx(torchs.item(), rel=1e-12)


@pytest.mark.parametrize("margin", [0.5, 2.0])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_the_triplet_loss_has_eq_15_s_gradient(margin, classes):
    loss, (features, _) = placed("triplet", margin=margin), batch(15, size=UNIT)
    loss.scale.fill_(UNIT)
    labels = torch.arange(15) % classes
    features.requires_grad_(True)
    apart = ((features[:, None] - features) / UNIT).square().sum(dim=2)
    hinges = [
        F.relu(margin + apart[a, p] - apart[a, n])
        for a, p, n in itertools.product(range(15), repeat=3)
        if a != p and labels[a] == labels[p] != labels[n]
    ]
    expected = torch.stack(hinges).mean() if hinges else 0 * features.sum()
    found = loss.of_batch(features, labels)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    gradients = [torch.autograd.grad(value, features)[0] for value in (found, expected)]
    assert torch.allclose(*gradients, rtol=0, atol=1e-14)


# An image against the class centres


def test_an_image_s_contrastive_loss_pairs_it_with_every_centre():
    loss, (features, labels) = placed("contrastive", size=UNIT, margin=1.0), batch(size=UNIT)
    loss.scale.fill_(UNIT)
    expected = [
        mean(
            [eq_14(feature, centre, own == other, 1.0) for other, centre in enumerate(loss.centres)]
        )
        for feature, own in zip(features, labels.tolist(), strict=True)
    ]
    assert loss.per_image(features, labels).tolist() == pytest.approx(expected, rel=1e-12)


def test_an_image_s_triplet_loss_is_over_every_other_centre():
    loss, (features, labels) = placed("triplet", size=UNIT, margin=1.0), batch(size=UNIT)
    loss.scale.fill_(UNIT)
    expected = [
        mean(
            [
                eq_15(feature, loss.centres[own], centre, 1.0)
                for other, centre in enumerate(loss.centres)
                if other != own
            ]
        )
        for feature, own in zip(features, labels.tolist(), strict=True)
    ]
    assert loss.per_image(features, labels).tolist() == pytest.approx(expected, rel=1e-12)
