"""The sums that losses share: distances that keep their digits, and class means."""

import pytest
import torch
from torch import Tensor

from robustbench_pcl.losses.criterion import class_means, squared_distances


def by_differences(features: Tensor, points: Tensor) -> Tensor:
    return (features[:, None, :] - points).square().sum(dim=2)


def near_each_other(classes: int) -> tuple[Tensor, Tensor]:
    """Features and points 1000 from the origin and 1e-3 from each other, in float32."""
    source = torch.Generator().manual_seed(0)
    points = 1000 + torch.randn((classes, 64), generator=source)
    features = points[torch.arange(40) % classes]
    return features + 1e-3 * torch.randn((40, 64), generator=source) / 8, points


@pytest.mark.parametrize("classes", [1, 100])
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


@pytest.mark.parametrize("classes", [1, 100])
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


def test_squared_distances_keep_what_inner_products_lose():
    point = torch.full((1, 3), 1000.0)
    near = point + torch.tensor([[2.0**-10, 0.0, 0.0]])
    assert squared_distances(near, point).item() == 2.0**-20


def test_distances_to_100_points_hold_no_difference_of_every_two():
    features, points = torch.randn(32, 256), torch.randn(100, 256, requires_grad=True)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda kept: sizes.append(kept.numel()) or kept, lambda kept: kept
    ):
        squared_distances(features, points).sum().backward()
    assert max(sizes) == 100 * 256


def test_a_class_without_images_has_the_overall_mean():
    features = torch.tensor([[0.0], [2.0], [7.0]])
    means = class_means(features, torch.tensor([0, 0, 2]), 4)
    assert means.tolist() == [[1.0], [3.0], [7.0], [3.0]]
