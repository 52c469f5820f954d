"""What losses on pairs and triplets share: the batch as a whole, the unit, the class means."""

import itertools
import math

import pytest
import torch
from loss_toys import CLASSES, DIMENSION, ON_PAIRS, batch, placed, square
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.losses.metric import pairwise_squared_distances
from robustbench_pcl.registry import build
from robustbench_pcl.specs.base import Part

UNIT = 2.5


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
    loss = LOSSES[name](400, CLASSES)
    features = torch.randn((64, 400), generator=torch.Generator().manual_seed(0))
    with Largest() as largest:
        loss(features.requires_grad_(True), torch.arange(64) % CLASSES).backward()
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
@pytest.mark.parametrize("form", ["forward", "per_image"])
def test_the_size_of_the_features_does_not_matter_after_the_start(name, form):
    features, labels = batch(40)
    found = []
    for size in (1e-2, 1.0, 1e3):
        loss = placed(name)
        loss.initialise(size * features, labels)
        found.append(getattr(loss, form)(size * features, labels).mean().item())
    assert found == pytest.approx([found[0]] * 3)
    assert found[0] > 0.01


@pytest.mark.parametrize("name", ON_PAIRS)
def test_calibrating_puts_the_centres_on_the_class_means_and_keeps_the_unit(name):
    loss, (features, labels) = placed(name), batch(40, size=9.0)
    loss.scale.fill_(UNIT)
    loss.calibrate(features.requires_grad_(True), labels)
    for label, anchor in enumerate(loss.anchors()):
        assert torch.allclose(anchor, features[labels == label].mean(dim=0))
    assert loss.scale.item() == UNIT
    assert loss.centres.is_leaf


@pytest.mark.parametrize("name", ON_PAIRS)
@pytest.mark.parametrize("margin", [0.0, -1.0])
def test_the_margin_is_positive(name, margin):
    with pytest.raises(UserError, match=f"margin is {margin}"):
        build(LOSSES, Part(name=name, parameters={"margin": margin}), DIMENSION, CLASSES)
