"""FAB-T: exact distances on linear models, budgets, and what it leaves where it fails."""

from dataclasses import replace

import pytest
import torch
from attack_models import case_of
from attack_toys import (
    EARLY_STOP,
    Constant,
    attacked,
    linear_model,
    predictions,
    random_images,
    short,
    some_wrong,
)
from exact_optimum import CASES, CLEARLY, largest_margins, relu_net, toy_images
from test_attacks_linear import exact_distances

from robustbench_pcl.attacks import FAB
from robustbench_pcl.attacks.fast_model import EXACT, Shortcuts

NORMS = ["linf", "l2"]
FREE = {"linf": 1.0, "l2": 10.0}
"""A budget that nobody needs."""


def length(changes, norm):
    return changes.flatten(1).norm(p=torch.inf if norm == "linf" else 2, dim=1)


def distances(model, images, labels, norm):
    """To each class's half-space, (N, K), off the pixels' ends; infinite for the label."""
    weight, logits = model[1].weight.detach(), model(images).detach()
    margins = logits.gather(1, labels[:, None]) - logits
    slopes = (weight[labels][:, None] - weight).norm(p=1 if norm == "linf" else 2, dim=2)
    return (margins / slopes).scatter(1, labels[:, None], torch.inf)


@pytest.mark.parametrize("norm", NORMS)
def test_on_two_classes_the_distance_is_exact(norm):
    model, images = linear_model(2, 9), random_images(120, 1, 3, 3, low=0.3, high=0.7)
    labels = some_wrong(predictions(model, images), 2)
    by_class = distances(model, images, labels, norm)
    if norm == "l2":  # where some pixels come to their ends
        by_class = exact_distances(model, images, labels)
    exact = by_class.amin(dim=1)
    made = FAB(norm=norm, eps=FREE[norm], steps=20)(model, images, labels, exact=True)
    assert (predictions(model, made) != labels).all()
    found = length(made - images, norm)
    assert torch.equal(made[exact <= 0], images[exact <= 0])  # fooled as they are
    near = (exact > 0) & ((exact < 0.28) | (norm == "l2"))
    ratio = found[near] / exact[near]
    assert len(ratio) > 60
    assert ratio.min() > 1 - 1e-9
    assert ratio.max() < 1.05


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [3, 4, 10])
def test_on_more_classes_whoever_is_within_eps_is_found_and_nobody_else(classes, norm):
    model, images = linear_model(classes, 9), random_images(80, 1, 3, 3, low=0.4, high=0.6)
    labels = some_wrong(predictions(model, images), classes)
    exact = distances(model, images, labels, norm).amin(dim=1)
    eps = min(exact.quantile(0.5).item() + 1e-6, 0.39)
    made = FAB(norm=norm, eps=eps, steps=20)(model, images, labels, exact=True)
    found = predictions(model, made) != labels
    assert 10 < found.sum() < 70
    assert not (found & (exact > eps)).any()
    assert found[exact < eps / 1.05].all()
    assert length(made - images, norm).max() <= eps + 1e-12


@pytest.mark.parametrize("norm", NORMS)
def test_on_relu_networks_the_exact_optimum_is_not_beaten_and_mostly_reached(norm):
    """In L2, the ball lies inside that of L-infinity, whose optimum is known."""
    reached = []
    for inputs, classes in CASES[::2]:
        model = relu_net(inputs, classes)
        images, labels = toy_images(model, 12)
        possible = largest_margins(model, images, labels, eps=0.15)
        made = FAB(norm=norm, eps=0.15, steps=50)(model, images, labels, exact=True)
        found = predictions(model, made) != labels
        assert not (found & (possible < -CLEARLY)).any()
        reached += found[possible > CLEARLY].tolist()
    assert len(reached) > 15
    assert sum(reached) / len(reached) > (0.9 if norm == "linf" else 0.5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("fast", [False, True])
def test_early_stop_fells_the_same_images_from_further_away(norm, fast):
    case, eps = case_of("normed_net"), {"linf": 0.04, "l2": 0.2}[norm]
    attack = short("fab", norm=norm, eps=eps)
    ways = replace(Shortcuts(folded=True) if fast else EXACT, early_stop=True), EXACT
    first, every = (attacked(attack, case.model, case.images, case.labels, way) for way in ways)
    assert 0 < first.robust.sum() < 16
    assert torch.equal(first.robust, every.robust)
    far, near = (length(run.adversarial - case.images, norm) for run in (first, every))
    fooled = ~every.robust
    assert (near <= far + 1e-9)[fooled].all()
    assert (near < far)[fooled].any()
    assert first.backward_passes < every.backward_passes


@pytest.mark.parametrize("norm", NORMS)
def test_who_withstands_ends_at_the_edge_of_the_budget(norm):
    """Near the boundary, not at the clean image: that is what the next model is given."""
    model, images = linear_model(3, 9), random_images(60, 1, 3, 3, low=0.4, high=0.6)
    labels = predictions(model, images)
    found = attacked(short("fab", norm=norm, eps=0.02), model, images, labels, EARLY_STOP)
    assert found.robust.any()
    change = length(found.adversarial - images, norm)[found.robust]
    assert change.max() <= 0.02 + 1e-12
    assert torch.allclose(change, torch.full_like(change, 0.02), rtol=0, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 100])
def test_there_are_nine_targets_or_all_there_are(classes):
    stages = FAB().stages(classes)
    assert [stage.attack.rank for stage in stages] == list(range(1, min(9, classes - 1) + 1))
    assert all(stage.attack.stages(classes)[0].attack == stage.attack for stage in stages)
    assert len({stage.title for stage in stages}) == len(stages)


def test_each_target_s_own_boundary_is_followed():
    """Class k's score is the sum of its own pixels: raising some leads to that class alone."""
    model = linear_model(5, 25, seed=3)
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(5).repeat_interleave(5, dim=1))
        model[1].bias.zero_()
    images = random_images(20, 1, 5, 5, low=0.3, high=0.7)
    labels, order = predictions(model, images), model(images).argsort(dim=1, descending=True)
    for rank in (1, 2, 3, 4):
        attack = FAB(norm="l2", eps=10.0, steps=5, rank=rank)
        made = attack(model, images, labels, exact=True)
        assert (predictions(model, made) != labels).all()
        raised = (made - images).view(20, 5, 5).sum(dim=2).argmax(dim=1)
        assert torch.equal(raised, order[:, rank])


def test_a_step_takes_two_passes_forward_and_one_backward():
    case = case_of("conv_net")
    attack = short("fab", steps=10, eps=0.04)
    found = attacked(attack, case.model, case.images, case.predictions)
    assert found.backward_passes == 16 * 10
    assert found.forward_passes == 16 * (2 * 10 + 1)  # one to rank the wrong classes


def test_without_a_slope_nothing_moves():
    images = random_images(4, 1, 3, 3)
    found = attacked(short("fab"), Constant(), images, torch.zeros(4).long())
    assert torch.allclose(found.adversarial, images, rtol=0, atol=1e-12)
