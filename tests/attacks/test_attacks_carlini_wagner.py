"""What is particular to Carlini and Wagner's attack: its search, its stops, its failures."""

import copy
import itertools

import pytest
import torch
from attack_toys import (
    attacked,
    linear_model,
    predictions,
)
from torch import nn

from robustbench_pcl.attacks import CW
from robustbench_pcl.attacks.losses import logit_margin


def test_each_image_of_carlini_wagner_stops_on_its_own(case):
    """The passes of a batch are those of its images one by one, fewer than all steps for all."""
    attack = CW(c=0.1, steps=300, learning_rate=0.05)
    images, labels = case.images[8:14], case.labels[8:14]
    spent = [
        attacked(attack, case.model, images[rows], labels[rows]).backward_passes
        for rows in itertools.chain([slice(None)], (slice(i, i + 1) for i in range(6)))
    ]
    assert spent[0] == sum(spent[1:])
    assert len(set(spent[1:])) > 1
    assert spent[0] < 6 * 300


def test_carlini_wagner_takes_steps_for_each_c(case):
    attack = CW(steps=20, search_steps=3)
    found = attacked(attack, case.model, case.images[:4], case.labels[:4])
    assert 4 * 20 < found.backward_passes <= 4 * 20 * 4


def test_where_it_fails_it_returns_the_clean_image(case):
    """Too small a c leaves most images where they were; a changed one is always a success."""
    attack = CW(steps=60, c=0.05, learning_rate=0.05)
    adversarial = attack(case.model, case.images, case.labels)
    fooled = predictions(case.model, adversarial) != case.labels
    changed = (adversarial != case.images).flatten(1).any(dim=1)
    assert 0 < fooled.sum() < 64
    assert (~fooled).sum() > 5
    assert torch.equal(adversarial[~fooled], case.images[~fooled])
    assert not (changed & ~fooled).any()


def test_a_search_of_c_finds_what_a_small_c_does_not(case):
    images, labels = case.images[:16], predictions(case.model, case.images[:16])
    parameters = {"c": 1e-3, "steps": 60, "learning_rate": 0.05}
    alone = CW(**parameters)(case.model, images, labels)
    assert (predictions(case.model, alone) == labels).sum() >= 10
    searched = CW(**parameters, search_steps=5)(case.model, images, labels)
    assert (predictions(case.model, searched) != labels).all()


class Sloped(nn.Module):
    """Class 1 where the first pixel is above 0.6 and the second is not above 0.5, else class 0.

    The margin is 0.2 (x - 0.6), so that c pulls a pixel from 0.3 up by 0.1 c, and above 0.6 if c is
    at least 3. Where the second pixel is above 0.5, nothing has a gradient.
    """

    def forward(self, images):
        first, second = images.flatten(1).unbind(dim=1)
        margin = torch.where(second > 0.5, first * 0 - 1, 0.2 * (first - 0.6))
        return torch.stack([0 * margin, margin], dim=1)


def test_c_is_searched_by_tens_and_then_by_bisection_for_each_image():
    """Three images that are fooled by a c of at least 3, of anything, of nothing."""
    pixels = [[0.3, 0.0], [0.7, 0.0], [0.3, 1.0]]
    images = torch.tensor(pixels, dtype=torch.float64).view(3, 1, 1, 2)
    tried = [[], [], []]

    class Noting(CW):
        def step(self, target, state):
            for row, c in zip(state.chunk.rows.tolist(), state.c.tolist(), strict=True):
                if c not in tried[row][-1:]:
                    tried[row].append(c)
            return super().step(target, state)

    attack = Noting(c=1.0, steps=200, learning_rate=0.02, search_steps=4)
    adversarial = attack(Sloped(), images, torch.tensor([0, 0, 0]), exact=True)
    assert tried == [
        [1, 10, 5.5, 3.25, 2.125],
        [1, 0.5, 0.25, 0.125, 0.0625],
        [1, 10, 100, 1000, 10000],
    ]
    assert adversarial[0, 0, 0, 0].item() == pytest.approx(0.6, abs=0.01)
    assert torch.equal(adversarial[1:], images[1:])


def test_a_search_of_c_shortens_the_perturbation(case):
    images, labels = case.images[:16], predictions(case.model, case.images[:16])
    attacks = [CW(c=100, steps=60, learning_rate=0.05, search_steps=steps) for steps in (0, 6)]
    alone, searched = (
        (attack(case.model, images, labels) - images).flatten(1).norm(dim=1) for attack in attacks
    )
    assert (alone > 0).all()
    assert (searched <= alone).all()
    assert searched.mean() < 0.9 * alone.mean()


def test_carlini_wagner_moves_pixels_of_exactly_0_and_1():
    """All pixels at a bound, and only the way off it leads to the other class."""
    model = linear_model(2, 16)
    weight = model[1].weight.detach()
    images = (weight[1] > weight[0]).double().view(1, 1, 4, 4)
    labels = predictions(model, images)
    assert labels.item() == 1
    adversarial = CW(c=10, steps=300, learning_rate=0.03)(model, images, labels)
    assert predictions(model, adversarial).item() == 0
    assert (adversarial != images).all()


def test_confidence_is_a_margin_that_is_reached(case):
    images, labels = case.images[:12], predictions(case.model, case.images[:12])
    model = copy.deepcopy(case.model).eval()
    for confidence in (0.0, 1.0):
        attack = CW(c=100, steps=100, learning_rate=0.05, confidence=confidence)
        margins = logit_margin(model(attack(model, images, labels)), labels)
        assert (margins >= confidence).all()
        assert (margins < confidence + 1).any()
