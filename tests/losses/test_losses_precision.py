"""Distances keep their digits, and losses theirs under autocast."""

import pytest
import torch
from loss_toys import ON_FEATURES, batch, placed
from torch import Tensor

from robustbench_pcl.losses import LOSSES
from robustbench_pcl.losses.base import FeatureLoss, squared_distances
from robustbench_pcl.losses.criterion import Criterion


def by_differences(features: Tensor, points: Tensor) -> Tensor:
    return (features[:, None, :] - points).square().sum(dim=2)


def near_each_other(classes: int) -> tuple[Tensor, Tensor]:
    """Features and points 1000 from the origin and 1e-3 from each other, in float32."""
    source = torch.Generator().manual_seed(0)
    points = 1000 + torch.randn((classes, 64), generator=source)
    features = points[torch.arange(40) % classes]
    return features + 1e-3 * torch.randn((40, 64), generator=source) / 8, points


@pytest.mark.parametrize("classes", [1, 10, 100])
def test_small_distances_far_from_the_origin_are_kept_as_well_as_by_differences(classes):
    features, points = near_each_other(classes)
    exact = by_differences(features.double(), points.double())
    assert exact.min() < 1e-5
    found, rival = (
        ((form(features, points) - exact).abs() / exact).max()
        for form in (squared_distances, by_differences)
    )
    assert found <= rival
    assert found < 1e-7


@pytest.mark.parametrize("classes", [1, 10, 100])
def test_so_are_their_gradients(classes):
    features, points = near_each_other(classes)
    weights = torch.rand((40, classes), generator=torch.Generator().manual_seed(1))

    def gradients(form, *given):
        leaves = [value.detach().requires_grad_(True) for value in given]
        return torch.autograd.grad((form(*leaves) * weights.to(leaves[0])).sum(), leaves)

    exact = gradients(by_differences, features.double(), points.double())
    found, rival = (
        [
            ((one - other).abs().max() / other.abs().max()).item()
            for one, other in zip(gradients(form, features, points), exact, strict=True)
        ]
        for form in (squared_distances, by_differences)
    )
    assert all(mine <= max(theirs, 6e-8) for mine, theirs in zip(found, rival, strict=True))


def test_distances_of_100_classes_hold_no_difference_of_every_two():
    features, points = torch.randn(32, 256), torch.randn(100, 256, requires_grad=True)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda kept: sizes.append(kept.numel()) or kept, lambda kept: kept
    ):
        squared_distances(features, points).sum().backward()
    assert max(sizes) == 100 * 256


@pytest.mark.parametrize("name", ON_FEATURES)
def test_the_criterion_s_terms_and_gradients_are_the_same_under_autocast(name):
    loss, (features, labels) = placed(name).float(), batch()
    criterion, logits = Criterion({3: loss}, name), torch.randn(12, 5)
    features = (30 + features.float()).requires_grad_(True)

    def value() -> Tensor:
        terms = criterion(logits, {3: features}, labels)
        return sum(terms.values()) + criterion.per_image(logits, {3: features}, labels).sum()

    expected = value()
    with torch.autocast("cpu", torch.bfloat16):
        found = value()
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(total, features)[0] for total in (found, expected)]
    assert torch.equal(*gradients)


def test_a_criterion_calibrates_if_one_of_its_losses_says_how():
    class Own(LOSSES["pcl"]):
        def calibrate(self, features, labels):
            pass

    plain = LOSSES["pcl"](4, 5)
    assert not Criterion({}, "cross-entropy").calibrates
    assert not Criterion({3: plain}, "pcl").calibrates
    assert Criterion({3: plain, 4: Own(4, 5)}, "mine").calibrates
    for name in ON_FEATURES:
        overridden = LOSSES[name].calibrate is not FeatureLoss.calibrate
        assert Criterion({3: placed(name)}, name).calibrates == overridden
