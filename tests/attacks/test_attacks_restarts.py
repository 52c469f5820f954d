"""Images on which a fast copy answers otherwise are attacked again, by the model itself."""

import copy
from dataclasses import replace

import pytest
import torch
from attack_models import filled
from attack_toys import (
    EARLY_STOP,
    Attacked,
    attacked,
    chunks_of,
    collected,
    generator,
    greys,
    predictions,
    random_images,
    started,
)
from torch import nn

from robustbench_pcl.attacks import ATTACKS, BIM
from robustbench_pcl.attacks.base import Goal, draw_seeds
from robustbench_pcl.attacks.checks import PROBE
from robustbench_pcl.attacks.fast_model import EXACT, Shortcuts
from robustbench_pcl.attacks.target import TargetModel

FAST = Shortcuts(folded=True, early_stop=True)
IMAGES = random_images(24, 2, 6, 6, seed=6)
IMAGES[:, 0, 0, 0] = torch.where(torch.arange(24) < 14, 0.2, 0.8)
ODD = IMAGES[:, 0, 0, 0] > 0.5
"""Whom a copy mistakes; none is among the first, with which it is compared before it is used."""


class Mistaken(nn.Module):
    """The identity of logits; in a copy, those of images with a bright first pixel are flipped."""

    def __init__(self) -> None:
        super().__init__()
        self.copied = False

    def __deepcopy__(self, memo: object) -> "Mistaken":
        other = Mistaken()
        other.copied = True
        return other

    def forward(self, logits, images):
        if not self.copied:
            return logits
        return torch.where(images[:, 0, 0, :1] > 0.5, logits.flip(1), logits)


class Forked(nn.Module):
    """A network of which a copy answers otherwise for some images."""

    def __init__(self) -> None:
        super().__init__()
        body = (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 4))
        self.body = filled(nn.Sequential(*body))
        self.mistaken = Mistaken()

    def forward(self, images):
        return self.mistaken(self.body(images), images)


MODEL = Forked()
LABELS = predictions(MODEL, IMAGES)


def run(attack: str, shortcuts: Shortcuts, sizes: list[int] | None = None) -> Attacked:
    chosen = ATTACKS[attack](eps=0.06)
    return attacked(chosen, MODEL, IMAGES, LABELS, shortcuts, sizes=sizes)


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("attack", ["bim", "mim", "pgd"])
def test_who_is_mistaken_by_the_copy_gets_what_the_model_itself_gives(attack, early_stop):
    """From the same start, as if there had been no copy: the images are the same to the bit."""
    expected = run(attack, Shortcuts(early_stop=early_stop))
    found = run(attack, replace(FAST, early_stop=early_stop))
    assert found.shortcuts.folded
    assert 0 < expected.robust[ODD].sum() < 10
    assert torch.equal(found.robust, expected.robust)
    fooled = ~expected.robust & ODD
    assert torch.equal(found.adversarial[fooled], expected.adversarial[fooled])
    near = torch.isclose(found.adversarial, expected.adversarial, rtol=0, atol=1e-9)
    assert near.flatten(1).all(dim=1)[~ODD].all()
    robust = expected.robust & ODD
    assert torch.equal(found.adversarial[robust], expected.adversarial[robust])


def test_without_the_second_attack_they_would_have_withstood():
    """So the copy's mistake is one that matters."""
    alone = run("bim", replace(FAST, early_stop=False, compared=False))
    both = run("bim", replace(FAST, early_stop=False))
    assert alone.robust[ODD].sum() > both.robust[ODD].sum()
    assert torch.equal(alone.adversarial[~ODD], both.adversarial[~ODD])
    assert (alone.classes == -1).all()  # nobody was asked


def test_only_they_are_attacked_again():
    alone, both = (
        run("bim", replace(FAST, early_stop=False, compared=compared)) for compared in (False, True)
    )
    again = both.backward_passes - alone.backward_passes
    fooled_anyway = (~alone.robust & ODD).sum()
    trial = 2 * PROBE  # gradients are compared only where all answers are
    assert again == 10 * (ODD.sum() - fooled_anyway) + trial


@pytest.mark.parametrize("sizes", [[24], [10, 10, 4], [16, 8]], ids=str)
@pytest.mark.parametrize("size", [8, 9, 64])
def test_nobody_is_lost_on_the_way_and_nobody_comes_twice(sizes, size, batches_of):
    whole = run("bim", FAST)
    batches_of(size)
    found = run("bim", FAST, sizes)
    assert torch.equal(found.adversarial, whole.adversarial)
    assert torch.equal(found.classes, whole.classes)


def test_the_copy_is_back_when_they_are_done():
    attack = BIM(eps=0.06)
    with TargetModel(MODEL, replace(FAST, early_stop=False)) as target:
        for _ in range(2):
            before = target.backward_passes
            chunks = chunks_of(IMAGES, LABELS, [24])
            collected(attack.stream(target, chunks, 24), IMAGES)
            assert target.fast is not None
            assert not target.exact
    with TargetModel(MODEL, EXACT) as exact:
        collected(attack.stream(exact, chunks_of(IMAGES, LABELS, [24]), 24), IMAGES)
        assert target.backward_passes - before > exact.backward_passes  # the second time too


@pytest.mark.parametrize("attack", ["bim", "pgd"])
def test_a_call_attacks_them_again_too(attack, monkeypatch):
    chosen = ATTACKS[attack](eps=0.06)
    fast, exact = (
        chosen(MODEL, IMAGES, LABELS, generator=generator(), exact=exact) for exact in (False, True)
    )
    fooled = [predictions(MODEL, made)[ODD] != LABELS[ODD] for made in (fast, exact)]
    assert torch.equal(*fooled)


# Verdicts that deny


class Differs(nn.Module):
    """In passes with a gradient it says 1, without one 0."""

    def forward(self, images):
        value = images.flatten(1).mean(dim=1)
        sign = 1 if torch.is_grad_enabled() else -1
        return torch.stack([-value, value], dim=1) * sign


def test_who_is_denied_at_the_last_step_ends_with_the_last_iterate(batches_of):
    """Each step is denied; what comes back is what all steps lead to, and has a verdict too."""
    batches_of(4)
    images = greys(10)
    with TargetModel(Differs(), EARLY_STOP) as target:
        chunks = chunks_of(images, torch.zeros(10).long(), [10])
        adversarial, classes = collected(BIM(eps=0.1).stream(target, chunks, 10), images)
        assert target.backward_passes == 10 * 10
        assert target.forward_passes == 2 * target.backward_passes + 10
    assert torch.allclose(adversarial, images + 0.1)
    assert (classes == 0).all()


def test_a_denied_image_goes_on_where_it_was(batches_of):
    """With momentum: its running sum is that of an attack that was never interrupted."""
    batches_of(4)
    attack, model = ATTACKS["mim"](eps=0.06), copy.deepcopy(MODEL)
    images, labels = IMAGES, LABELS
    with TargetModel(model) as target:
        seeds = draw_seeds(24, generator())
        expected = attack.perturb(target, images, Goal(labels), seeds)

    class Denied(nn.Module):
        """Fooled by every image in passes with a gradient, which are the model's own."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images):
            logits = self.model(images)
            if torch.is_grad_enabled():
                return logits
            return 100 * nn.functional.one_hot(LABELS[:1], 4).double().expand(len(images), 4)

    same = labels == labels[0]
    found = attacked(attack, Denied(), images[same], labels[same], EARLY_STOP)
    assert same.sum() >= 2
    assert found.forward_passes > found.backward_passes + same.sum()  # some were denied
    assert torch.equal(found.adversarial, expected[same])
    assert started(attack, images, labels).adversarial is images
