"""No certified radius is above what an exhaustive search finds, on 200 small random networks."""

import pytest
import torch
from attack_toys import predictions
from certificate_nets import FAMILIES, SEEDS, corners, make, nearest_on_grids, some_images
from exact_optimum import largest_margins, relu_net, toy_images
from torch import nn

from robustbench_pcl.certificates.radii import certified_radii

MILP_NETS = 40


def test_there_are_200_networks():
    assert len(FAMILIES) * SEEDS + MILP_NETS >= 200


@pytest.mark.parametrize("family", FAMILIES)
def test_a_radius_is_never_above_the_nearest_point_of_another_class(family):
    shares = []
    for seed in range(SEEDS):
        model, images = make(family, seed), some_images(family, 2)
        labels = predictions(model, images)
        radii = certified_radii(model, images, labels, 1.0).certified
        for image, label, radius in zip(images, labels.tolist(), radii.tolist(), strict=True):
            nearest = nearest_on_grids(model, image, label)
            assert radius < nearest
            assert bool((model(corners(image, radius)).argmax(dim=1) == label).all())
            shares.append(radius / min(nearest, 1.0))
    assert torch.tensor(shares).median() > 0.1  # it says something


def test_a_radius_is_never_above_an_integer_program_s():
    clear = 0
    for seed in range(MILP_NETS):
        inputs, classes = 2 + seed % 5, 2 + seed % 3
        model = relu_net(inputs, classes, hidden=3 + seed % 6, seed=seed)
        images, labels = toy_images(model, 3, seed)
        radii = certified_radii(model, images, labels, 1.0).certified
        for row, radius in enumerate(radii.tolist()):
            most = largest_margins(model, images[row : row + 1], labels[row : row + 1], radius)
            assert float(most) < 1e-7  # the program's own tolerance
            clear += radius > 1e-3
    assert clear > MILP_NETS


def room(image: torch.Tensor, slope: torch.Tensor, eps: float) -> float:
    """How much a linear function can fall within eps and [0, 1]."""
    down = torch.where(slope > 0, image, 1 - image).clamp_max(eps)
    return float((slope.abs() * down).sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_linear_model_s_radius_is_exact(dtype):
    """The margin is lost where the L1 norm of the difference of weights, cut off at 0 and 1, is."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).to(dtype).requires_grad_(False)
    images = torch.rand(20, 3, 2, 2, dtype=dtype)
    labels, largest = predictions(model, images), 0.5
    radii = certified_radii(model, images, labels, largest).certified
    weight, bias = (value.double() for value in (model[1].weight, model[1].bias))
    for image, label, radius in zip(images.double(), labels.tolist(), radii.tolist(), strict=True):
        slopes = weight[label] - weight
        gaps = slopes @ image.flatten() + bias[label] - bias
        others = [k for k in range(4) if k != label]
        kept, lost = (
            [float(gaps[k]) - room(image.flatten(), slopes[k], eps) for k in others]
            for eps in (radius, radius + largest / 8_000)
        )
        assert min(kept) > 0
        assert radius == largest or min(lost) <= 0
    assert len(set(radii.tolist())) > 10
