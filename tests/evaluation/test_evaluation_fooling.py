"""Fooling radii: upper ends of what is true, near it, and confirmed by the model itself."""

import math

import pytest
import torch
from attack_toys import generator, predictions
from exact_optimum import largest_margins, relu_net, toy_images
from torch import nn

from robustbench_pcl.certificates.radii import certified_radii
from robustbench_pcl.errors import InvalidInputError
from robustbench_pcl.evaluation.fooling import fooling_radii


@pytest.mark.parametrize("seed", range(4))
def test_a_radius_lies_between_what_is_certified_and_what_is_possible(seed):
    """An integer program finds no smaller one; most are within 2 % of it."""
    model = relu_net(4, 3, seed=seed)
    images, labels = toy_images(model, 10, seed)
    found = fooling_radii(model, images, labels, 0.5)
    certified = certified_radii(model, images, labels, 0.5).certified
    near = []
    for row, radius in enumerate(found.tolist()):
        one = (model, images[row : row + 1], labels[row : row + 1])
        if not math.isnan(radius):
            assert float(largest_margins(*one, radius + 1e-9)) > 0
            near.append(float(largest_margins(*one, 0.98 * radius - 1e-3)) < 0)
        assert not certified[row] > radius
    assert len(near) >= 5
    assert sum(near) > 0.5 * len(near)


def test_a_radius_is_measured_from_an_image_that_the_model_has_wrong():
    """Of a linear model in float32 it is the margin over the weights' L1 norm."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    images = 0.3 + 0.4 * torch.rand(30, 3, 2, 2, generator=generator())
    with torch.no_grad():
        difference = model[1].weight[0] - model[1].weight[1]
        model[1].bias.copy_(
            torch.stack([-difference @ images.flatten(1).mean(dim=0), 0 * difference[0]])
        )
        logits = model(images)
    exact = (logits[:, 0] - logits[:, 1]).abs() / difference.abs().sum()
    found = fooling_radii(model, images, predictions(model, images), 0.25)
    assert found.dtype == torch.float64
    assert bool((found >= exact * (1 - 1e-5)).all())
    assert bool((found <= 1.01 * exact + 1e-6).all())


def test_what_is_wrong_has_radius_0_and_what_was_not_found_none():
    model = relu_net(4, 3, seed=1)
    images, labels = toy_images(model, 6)
    labels[0] = (labels[0] + 1) % 3
    found = fooling_radii(model, images, labels, 1e-6)
    assert float(found[0]) == 0
    assert bool(found[1:].isnan().all())


def test_radii_follow_from_the_seed():
    model = relu_net(6, 3, seed=2)
    images, labels = toy_images(model, 8)
    first, again = (fooling_radii(model, images, labels, 0.5, seed=3) for _ in range(2))
    assert torch.equal(first, again)


def test_what_cannot_be_judged_is_refused():
    model = relu_net(4, 3)
    images, labels = toy_images(model, 4)
    with pytest.raises(InvalidInputError, match=r"must be in \[0, 1\]"):
        fooling_radii(model, images + 1, labels, 0.1)
