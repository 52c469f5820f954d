"""The Prototype Conformity Loss against Eq. 5-6, and the authors' against what their code does."""

import math

import pytest
import torch
from loss_toys import CLASSES, DIMENSION, batch, built, placed, square

from robustbench_pcl.losses.criterion import squared_distances
from robustbench_pcl.losses.prototype import PrototypeConformity


def prototype_conformity_by_hand(loss: PrototypeConformity, features, labels) -> list[float]:
    """Eq. 5 in units of the separation, each subtracted distance held at 1."""
    prototypes = loss.prototypes.detach()
    found = []
    for feature, label in zip(features / loss.scale, labels.tolist(), strict=True):
        own, others = prototypes[label], 0.0
        for other in range(CLASSES):
            if other != label:
                others += min(square(feature - prototypes[other]), 1.0)
                others += min(square(own - prototypes[other]), 1.0)
        found.append(square(feature - own) - others / (CLASSES - 1))
    return found


@pytest.mark.parametrize("size", [0.1, 0.4, 3.0])
def test_it_is_eq_5_with_its_cap(size):
    loss, (features, labels) = placed("pcl", size), batch(size=2.5 * size)
    loss.scale.fill_(2.5)
    found = loss.per_image(features, labels).tolist()
    assert found == pytest.approx(prototype_conformity_by_hand(loss, features, labels), abs=1e-12)


def test_the_sizes_above_are_below_at_and_above_the_cap():
    shares = []
    for size in (0.1, 0.4, 3.0):
        loss, (features, _) = placed("pcl", size), batch(size=size)
        below = squared_distances(features, loss.prototypes) < 1
        shares.append(below.double().mean().item())
    assert shares[0] == 1
    assert 0.1 < shares[1] < 0.9
    assert shares[2] < 0.05


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_its_gradient_inside_the_separation_is_eq_6(scale):
    loss, (features, labels) = placed("pcl", 0.1), batch(size=0.1 * scale)
    loss.scale.fill_(scale)
    features.requires_grad_(True)
    (found,) = torch.autograd.grad(loss.per_image(features, labels).sum(), features)
    prototypes, units = loss.prototypes.detach(), features.detach() / scale
    for row, label in enumerate(labels.tolist()):
        pushes = [units[row] - prototypes[j] for j in range(CLASSES) if j != label]
        eq_6 = 2 * (units[row] - prototypes[label] - sum(pushes) / (CLASSES - 1))
        assert torch.allclose(found[row] * scale, eq_6, atol=1e-12)
        others = [prototypes[j] for j in range(CLASSES) if j != label]
        constant = 2 * (sum(others) / (CLASSES - 1) - prototypes[label])
        assert torch.allclose(eq_6, constant, atol=1e-12)  # it does not depend on the feature


def test_outside_the_separation_only_the_pull_is_left():
    loss = placed("pcl")
    with torch.no_grad():
        loss.prototypes.copy_(3 * torch.eye(CLASSES, DIMENSION))
    features, labels = batch(size=0.01)
    features = (features + loss.prototypes.detach()[labels]).requires_grad_(True)
    gradients = torch.autograd.grad(
        loss.per_image(features, labels).sum(), (features, loss.prototypes)
    )
    pull = 2 * (features - loss.prototypes[labels]).detach()
    assert torch.allclose(gradients[0], pull, atol=1e-12)
    expected = torch.zeros(CLASSES, DIMENSION, dtype=torch.float64).index_add(0, labels, -pull)
    assert torch.allclose(gradients[1], expected, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 0.1, 1.0, 10.0, 1e3])
def test_it_is_bounded_below_by_minus_two(size):
    for own in (0.0, 0.1, 1.0, 10.0, 1e3):
        features, labels = batch(size=size, count=200)
        assert placed("pcl", own).per_image(features, labels).min() >= -2


def test_the_bound_is_reached_by_classes_apart_and_tight():
    loss = placed("pcl")
    with torch.no_grad():
        loss.prototypes.copy_(3 * torch.eye(CLASSES, DIMENSION))
    labels = torch.arange(CLASSES)
    found = loss.per_image(loss.prototypes.detach(), labels)
    assert torch.equal(found, torch.full((CLASSES,), -2.0, dtype=torch.float64))


def test_gradient_descent_cannot_run_away():
    """As printed, Eq. 5 falls for ever; here features and prototypes come to rest."""
    loss, (features, labels) = placed("pcl", 0.05), batch(size=0.05)
    features.requires_grad_(True)
    for _ in range(500):
        total = loss(features, labels)
        gradients = torch.autograd.grad(total, (features, loss.prototypes))
        with torch.no_grad():
            features -= 0.5 * gradients[0]
            loss.prototypes -= 0.5 * gradients[1]
    assert -2 <= total.item() < -1.5
    assert features.abs().max() < 10
    assert loss.prototypes.abs().max() < 10


@pytest.mark.parametrize("separation", [1.0, 4.0])
def test_it_starts_on_the_class_means_in_units_of_their_distance(separation):
    loss, (features, labels) = placed("pcl", separation=separation), batch(40, size=9.0)
    loss.initialise(features.requires_grad_(True), labels)
    means = [features[labels == label].mean(dim=0) for label in range(CLASSES)]
    squares = [square(a - b) for a in means for b in means if a is not b]
    unit = separation * math.sqrt(sum(squares) / len(squares))
    assert loss.scale.item() == pytest.approx(unit)
    assert torch.allclose(loss.prototypes * unit, torch.stack(means))
    assert loss.prototypes.requires_grad
    assert loss.prototypes.is_leaf
    assert not loss.scale.requires_grad


def test_the_unit_of_distance_is_stored_with_the_prototypes():
    loss = placed("pcl")
    loss.initialise(*batch(40, size=9.0))
    assert set(loss.state_dict()) == {"prototypes", "scale"}


# What the authors' code minimises


@pytest.mark.parametrize("repulsion", [1e-4, 0.5])
def test_authors_loss_is_the_written_out_one(repulsion):
    loss, (features, labels) = placed("pcl-authors", repulsion=repulsion), batch()
    for feature, label, found in zip(
        features, labels.tolist(), loss.per_image(features, labels).tolist(), strict=True
    ):
        pushes = [
            square(feature - loss.repelling[other]) for other in range(CLASSES) if other != label
        ]
        expected = square(feature - loss.attracting[label])
        expected -= repulsion * sum(pushes) / (CLASSES - 1)
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("repulsion", [1e-4, 1e-5])
def test_authors_loss_learns_its_two_sets_at_rates_of_their_own(repulsion):
    """A gradient that carries the factor w, at the rate 1e-4 / w, is 1e-4 on the plain one."""
    loss = placed("pcl-authors", repulsion=repulsion)
    groups = loss.parameter_groups(0.5)
    assert groups[0]["params"] == [loss.attracting]
    assert groups[0]["lr"] == 0.5
    assert groups[1]["params"] == [loss.repelling]
    assert groups[1]["lr"] * repulsion == pytest.approx(1e-4)


def test_authors_centres_start_from_a_standard_normal_distribution():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loss = built("pcl-authors", dimension=2000)
    for centres in (loss.attracting, loss.repelling):
        assert centres.mean().item() == pytest.approx(0, abs=0.05)
        assert centres.std().item() == pytest.approx(1, abs=0.05)
    assert not torch.equal(loss.attracting, loss.repelling)
