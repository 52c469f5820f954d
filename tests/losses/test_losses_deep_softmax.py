"""Deep supervision by cross-entropy: the classifier at a tapped layer."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from loss_toys import CLASSES, COUNT, DIMENSION, batch, placed


def test_deep_softmax_is_cross_entropy_of_a_linear_layer():
    loss, (features, labels) = placed("deep-softmax", weight=0.5), batch(size=3.0)
    loss.initialise(features, labels)
    weight, bias = (value.detach() for value in loss.classifier.parameters())
    mean = features.mean(dim=0)
    unit = math.sqrt(sum(((row - mean) ** 2).sum().item() for row in features) / COUNT)
    for row, label, found in zip(
        features, labels.tolist(), loss.per_image(features, labels).tolist(), strict=True
    ):
        logits = (weight @ ((row - mean) / unit) + bias).tolist()
        expected = math.log(sum(math.exp(logit) for logit in logits)) - logits[label]
        assert found == pytest.approx(0.5 * expected)


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e3])
def test_deep_softmax_learns_at_one_rate_from_features_of_any_size(size):
    """Without the unit, this rate diverges on the largest and stands still on the smallest."""
    labels = torch.arange(100) % CLASSES
    features = size * (10 + F.one_hot(labels, DIMENSION + 1)[:, :DIMENSION])
    features = features.double()
    loss = placed("deep-softmax", size=0.1)
    loss.initialise(features, labels)
    optimiser = torch.optim.SGD(loss.parameter_groups(0.5))
    values = []
    for _ in range(200):
        values.append(loss(features, labels))
        optimiser.zero_grad()
        values[-1].backward()
        optimiser.step()
    assert all(later < earlier for earlier, later in itertools.pairwise(values))
    assert values[-1] < values[0] / 4
