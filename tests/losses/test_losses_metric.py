"""The losses on pairs and triplets against Eq. 14-15, pair by pair and triplet by triplet."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from loss_toys import ON_PAIRS, batch, built, placed, square
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from robustbench_pcl.losses.metric import pairwise_squared_distances

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


@pytest.mark.parametrize("margin", [0.5, 2.0])
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


@pytest.mark.parametrize("margin", [0.5, 2.0])
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


# A batch as a whole


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("contrastive", [1]),
        ("triplet", [1]),
        ("triplet", [1, 1, 1]),  # no negative
        ("triplet", [0, 1, 2]),  # no positive
    ],
)
def test_a_batch_without_any_costs_nothing_and_still_has_a_graph(name, labels):
    loss, features = placed(name), batch(len(labels))[0].requires_grad_(True)
    value = loss(features, torch.tensor(labels))
    value.backward()
    assert value.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))
    assert loss.centres.grad.any()  # the class means are followed all the same


@pytest.mark.parametrize("name", ON_PAIRS)
def test_the_order_of_a_batch_does_not_matter(name):
    loss, (features, labels) = placed(name), batch(30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    assert loss(features[order], labels[order]).item() == pytest.approx(
        loss(features, labels).item(), rel=1e-12
    )


class Largest(TorchDispatchMode):
    """Notes the most numbers that a tensor in it holds."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = result if isinstance(result, tuple | list) else [result]
        sizes = [tensor.numel() for tensor in tensors if isinstance(tensor, Tensor)]
        self.numbers = max(self.numbers, *sizes, 0)
        return result


@pytest.mark.parametrize(("name", "limit"), [("contrastive", 64 * 400), ("triplet", 64 * 12 * 64)])
def test_no_difference_of_every_two_images_is_held(name, limit):
    """64 images of 400 features: no more than the features, or than positive pairs by images."""
    loss = built(name, dimension=400)
    features = torch.randn((64, 400), generator=torch.Generator().manual_seed(0))
    with Largest() as largest:
        loss(features.requires_grad_(True), torch.arange(64) % 5).backward()
    assert 64 * 400 <= largest.numbers <= limit


def test_distances_between_images_do_not_lose_what_features_have_in_common():
    features = (torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.5, 0.0]]) / 64 + 1000).requires_grad_(True)
    found = pairwise_squared_distances(features)
    expected = torch.tensor([[0.0, 25.0, 0.25], [25.0, 0.0, 22.25], [0.25, 22.25, 0.0]]) / 64**2
    assert torch.allclose(found, expected, rtol=0, atol=1e-8)


def test_no_rounding_makes_a_squared_distance_negative():
    features = torch.randn((100, 3), generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    found = pairwise_squared_distances(features)
    assert found.min() == 0
    assert found.diagonal(100).max() < 1e-5


# The unit of distance and the centres


@pytest.mark.parametrize("name", ON_PAIRS)
def test_the_unit_is_the_distance_between_images_of_different_classes(name):
    loss, (features, labels) = placed(name), batch(40, size=9.0)
    features = 1000 + features
    loss.initialise(features.requires_grad_(True), labels)
    squares = [
        square(features[a] - features[b])
        for a, b in itertools.product(range(40), repeat=2)
        if labels[a] != labels[b]
    ]
    assert loss.scale.item() == pytest.approx(math.sqrt(sum(squares) / len(squares)))
    assert set(loss.state_dict()) == {"centres", "scale"}


@pytest.mark.parametrize("name", ON_PAIRS)
def test_calibrating_puts_the_centres_on_the_class_means_and_keeps_the_unit(name):
    loss, (features, labels) = placed(name), batch(40, size=9.0)
    loss.scale.fill_(UNIT)
    loss.calibrate(features.requires_grad_(True), labels)
    for label, anchor in enumerate(loss.anchors()):
        assert torch.allclose(anchor, features[labels == label].mean(dim=0))
    assert loss.scale.item() == UNIT
    assert loss.centres.is_leaf
