"""The whole evaluation in one call: exact where the answer is known."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from attack_toys import (
    SIGN_ATTACKS,
    linear_model,
    predictions,
    random_images,
    short,
    some_wrong,
)
from torch import nn

from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.engine.shortcuts import EXACT, Shortcuts
from robustbench_pcl.evaluation.robustness import robustness

EPS = (0.01, 0.03, 0.06, 0.1)
FOLDED = Shortcuts(folded=True)
SHORTCUTS = [
    EXACT,
    FOLDED,
    Shortcuts(retiring=True),
    Shortcuts(folded=True, retiring=True),
    Shortcuts(folded=True, precision="bfloat16"),
    Shortcuts(folded=True, precision="bfloat16", retiring=True, compiled=True),
    None,
]


class Linear:
    """A linear model behind a convolution and batch normalisation; 120 images off the bounds.

    Its margin is ``w x + b``, so a budget of eps takes away ``eps |w|_1`` of it and no more.
    """

    def __init__(self) -> None:
        norm = nn.BatchNorm2d(1)
        with torch.no_grad():
            norm.running_mean.fill_(0.3)
            norm.running_var.fill_(0.5)
            norm.weight.fill_(1.5)
            norm.bias.fill_(0.2)
        conv = nn.Conv2d(1, 1, 1)
        with torch.no_grad():
            conv.weight.fill_(1.25)
            conv.bias.fill_(-0.1)
        body = nn.Sequential(conv, norm).double().eval()
        last = linear_model(2, 9)
        weight = last[1].weight.detach()
        with torch.no_grad():  # undecided at grey, so that both classes occur
            last[1].bias.copy_(-(body(torch.full((1, 1, 3, 3), 0.5).double()).flatten() @ weight.T))
        self.model = nn.Sequential(body, *last)
        self.images = random_images(120, 1, 3, 3, low=0.3, high=0.7)
        self.labels = some_wrong(predictions(self.model, self.images), 2)
        with torch.no_grad():
            logits = self.model(self.images)
            # What a pixel weighs.
            gain = body(torch.ones(1, 1, 1, 1).double()) - body(torch.zeros(1, 1, 1, 1).double())
        signed = logits[:, 1] - logits[:, 0]
        margin = torch.where(self.labels == 1, signed, -signed)
        self.withstands = margin / ((weight[1] - weight[0]).abs().sum() * gain.abs().item())


@pytest.fixture(scope="module")
def linear() -> Linear:
    return Linear()


@pytest.mark.parametrize("shortcuts", SHORTCUTS, ids=str)
@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_robust_accuracy_is_exact_where_it_is_known(linear, name, eps, shortcuts):
    """Also with gradients in bfloat16: it is the verdict that has to be exact."""
    attack = short(name, eps=eps, loss="margin")
    found = robustness(linear.model, attack, linear.images, linear.labels, shortcuts=shortcuts)
    robust = linear.withstands > eps
    assert 0 < robust.sum() < 120
    assert torch.equal(found.clean, linear.withstands > 0)
    assert torch.equal(found.robust, robust)
    assert torch.equal(predictions(linear.model, found.adversarial) == linear.labels, robust)
    change = (found.adversarial - linear.images).abs().flatten(1).amax(dim=1)
    assert change.max() <= eps + 1e-12
    retiring = found.shortcuts.retiring
    assert (change[~found.clean] == 0).all() == retiring  # who is wrong already is left alone
    assert torch.allclose(change[robust], torch.full_like(change[robust], eps)) or name == "pgd"


def test_shortcuts_of_the_device_are_taken_unless_told(linear):
    found = robustness(linear.model, short("bim"), linear.images, linear.labels)
    assert found.shortcuts.folded
    assert found.shortcuts.retiring
    assert not robustness(
        linear.model, short("bim"), linear.images, linear.labels, shortcuts=EXACT
    ).shortcuts.prepared


def test_the_seed_is_of_the_random_start(linear):
    runs = [
        robustness(
            linear.model, short("pgd", 1), linear.images, linear.labels, shortcuts=EXACT, seed=seed
        ).adversarial
        for seed in (0, 0, 1)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_images_are_left_as_they_were(linear):
    before = linear.images.clone()
    robustness(linear.model, short("pgd"), linear.images, linear.labels)
    assert torch.equal(linear.images, before)


def test_an_attack_without_steps_of_its_own_is_evaluated_too(linear):
    """A member of the family may do no more than make images."""

    @dataclass(frozen=True)
    class Whiten(Attack):
        norm: ClassVar[str] = "linf"

        def perturb(self, victim, images, goal, seeds):
            victim.logits(images)
            return torch.ones_like(images)

    for shortcuts in (EXACT, None):
        found = robustness(
            linear.model, Whiten(), linear.images, linear.labels, shortcuts=shortcuts
        )
        white = predictions(linear.model, torch.ones_like(linear.images))
        attacked = found.clean if shortcuts is None else torch.ones_like(found.clean)
        assert torch.equal(found.robust, (white == linear.labels) & attacked)
        assert found.backward_passes == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images, labels: (images * 255, labels), "pixels in"),
        (lambda images, labels: (images[0], labels), "images must be float"),
        (lambda images, labels: (images, labels[1:]), "labels must be int64"),
    ],
)
def test_what_no_attack_can_be_made_on_is_refused(change, message):
    images = random_images(4, 1, 3, 3)
    labels = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        robustness(linear_model(2, 9), short("pgd"), *change(images, labels))
