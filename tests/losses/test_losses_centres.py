"""Class centres that follow the features (Eq. 12-13), and the center loss (Eq. 11)."""

import pytest
import torch
from loss_toys import TRACKED, batch, placed, square
from torch import Tensor


def moved_by_hand(centres: Tensor, features: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """Eq. 12-13, class by class and image by image."""
    moved = []
    for label, centre in enumerate(centres):
        total, count = torch.zeros_like(centre), 0
        for feature, own in zip(features, labels.tolist(), strict=True):
            if own == label:
                total, count = total + (centre - feature), count + 1
        moved.append(centre - alpha * total / (1 + count))
    return torch.stack(moved)


@pytest.mark.parametrize("name", TRACKED)
@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_a_step_of_sgd_is_eq_12_and_13(name, alpha):
    loss, (features, labels) = placed(name, weight=2.0, alpha=alpha), batch()
    labels[labels == 3] = 0
    before = loss.centres.detach().clone()
    optimiser = torch.optim.SGD(loss.parameter_groups(0.123))
    loss(features.requires_grad_(True), labels).backward()
    optimiser.step()
    expected = moved_by_hand(before, features.detach(), labels, alpha)
    assert torch.allclose(loss.centres.detach(), expected, rtol=0, atol=1e-14)
    assert torch.equal(loss.centres[3], before[3])  # a class that is absent from the batch
    assert not torch.allclose(expected[0], before[0])


@pytest.mark.parametrize("name", TRACKED)
def test_following_the_features_adds_nothing_to_the_value(name):
    loss, (features, labels) = placed(name), batch()
    assert torch.equal(loss(features, labels), loss.of_batch(features, labels))
    assert loss.of_batch(features.requires_grad_(True), labels).requires_grad
    (found,) = torch.autograd.grad(loss(features, labels), features)
    (expected,) = torch.autograd.grad(loss.of_batch(features, labels), features)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", TRACKED)
def test_an_image_s_loss_moves_no_centre(name):
    loss, (features, labels) = placed(name), batch()
    loss.per_image(features.requires_grad_(True), labels).sum().backward()
    assert features.grad.any()
    assert loss.centres.grad is None


@pytest.mark.parametrize("name", TRACKED)
def test_the_centres_come_to_the_class_means(name):
    loss, (features, labels) = placed(name), batch(40, size=9.0)
    optimiser = torch.optim.SGD(loss.parameter_groups(1.0))
    for _ in range(60):
        optimiser.zero_grad()
        loss(features, labels).backward()
        optimiser.step()
    for label, centre in enumerate(loss.centres):
        assert torch.allclose(centre, features[labels == label].mean(dim=0))


@pytest.mark.parametrize("name", TRACKED)
def test_the_value_and_the_step_keep_their_precision_under_autocast(name):
    loss, (features, labels) = placed(name).float(), batch()
    features = 30 + features.float()

    def value_and_step() -> list[Tensor]:
        value = loss(features, labels)
        return [value, *torch.autograd.grad(value, loss.centres)]

    expected = value_and_step()
    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_step()
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", TRACKED)
def test_features_of_bfloat16_are_compared_in_the_centres_precision(name):
    loss, (features, labels) = placed(name).float(), batch()
    halved = features.bfloat16()
    assert loss(halved, labels).dtype == torch.float32
    assert torch.equal(loss(halved, labels), loss(halved.float(), labels))


@pytest.mark.parametrize("weight", [0.003, 2.0])
def test_the_center_loss_is_eq_11(weight):
    loss, (features, labels) = placed("center", weight=weight), batch()
    found = loss.per_image(features, labels).tolist()
    expected = [
        weight / 2 * square(feature - loss.centres[label])
        for feature, label in zip(features, labels.tolist(), strict=True)
    ]
    assert found == pytest.approx(expected)
