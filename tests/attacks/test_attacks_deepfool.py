"""DeepFool: exact on linear models, along the nearest of the boundaries it looks at."""

import pytest
import torch
from attack_models import case_of
from attack_toys import attacked, linear_model, predictions, random_images
from test_attacks_linear import exact_distances, mixed_images

from robustbench_pcl.attacks import DeepFool
from robustbench_pcl.attacks.losses import logit_margin

OVER = 1.02


@pytest.mark.parametrize("classes", [2, 4, 10])
def test_in_l2_the_distance_is_exact_also_where_pixels_are_black_or_white(classes):
    """The smallest of the boxed distances to all half-spaces, and the overshoot."""
    model, images = linear_model(classes, 16, seed=9), mixed_images(40, seed=5)
    labels = predictions(model, images)
    exact = exact_distances(model, images, labels).amin(dim=1)
    found = attacked(DeepFool(), model, images, labels)
    assert not found.robust.any()
    ratio = (found.adversarial - images).flatten(1).norm(dim=1) / exact
    assert ratio.min() > 1 - 1e-9
    assert ratio.max() < OVER + 1e-9
    assert found.backward_passes <= 3 * 40 * min(classes - 1, 9)  # few need a second step


@pytest.mark.parametrize("classes", [2, 4])
def test_in_linf_the_distance_is_exact(classes):
    model, images = linear_model(classes, 9), random_images(40, 1, 3, 3, low=0.3, high=0.7)
    labels, weight = predictions(model, images), model[1].weight.detach()
    margins = model(images).detach().gather(1, labels[:, None]) - model(images).detach()
    slopes = (weight[labels][:, None] - weight).abs().sum(dim=2)
    exact = (margins / slopes).scatter(1, labels[:, None], torch.inf).amin(dim=1)
    made = DeepFool(norm="linf")(model, images, labels, exact=True)
    near = exact < 0.28  # no pixel comes to its end
    assert near.sum() > 25
    change = (made - images).abs().amax(dim=(1, 2, 3))
    assert torch.allclose(change[near], OVER * exact[near], rtol=1e-9, atol=0)


def test_it_ends_at_the_first_other_class_a_little_beyond_the_boundary():
    case = case_of("conv_net")
    model, right = case.model, case.labels == case.predictions
    found = attacked(DeepFool(), model, case.images, case.labels)
    assert not found.robust.any()
    assert torch.equal(found.adversarial[~right], case.images[~right])
    margins = logit_margin(model.eval()(found.adversarial[right]), case.labels[right])
    before = logit_margin(model(case.images[right]), case.labels[right])
    assert (margins > 0).all()
    assert (margins < 0.1 * before.abs()).double().mean() > 0.8


def test_only_the_likeliest_classes_are_looked_at():
    model, images = linear_model(6, 16, seed=2), random_images(30, 1, 4, 4)
    labels = predictions(model, images)
    one, all_of_them = (attacked(DeepFool(targets=k), model, images, labels) for k in (1, 5))
    lengths = [(run.adversarial - images).flatten(1).norm(dim=1) for run in (one, all_of_them)]
    assert (lengths[0] >= lengths[1] - 1e-9).all()
    assert (lengths[0] > 1.01 * lengths[1]).any()
    assert one.backward_passes < all_of_them.backward_passes


def test_a_target_class_s_own_boundary_is_followed():
    model, images = linear_model(4, 16, seed=2), random_images(30, 1, 4, 4)
    targets = (predictions(model, images) + 1) % 4
    made = DeepFool()(model, images, predictions(model, images), targets=targets, exact=True)
    assert torch.equal(predictions(model, made), targets)
