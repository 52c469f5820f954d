"""Who is asked about early, and whom the fast model has failed: the reference model decides."""

from dataclasses import replace

import pytest
import torch
from attack_models import case_of, filled
from attack_toys import (
    EARLY_STOP,
    Threshold,
    attacked,
    chunks_of,
    collected,
    greys,
    predictions,
    random_images,
    started,
)
from torch import nn

from robustbench_pcl.attacks import BIM, CW
from robustbench_pcl.attacks.fast_model import EXACT, Shortcuts
from robustbench_pcl.attacks.gradient_descent import TRUST
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.attacks.target import PROBE, TargetModel

# Steps that are likely to fool


class Always(BIM):
    """Asks about every step."""

    def likely_fooled(self, state, after, found):
        return torch.ones_like(found.blind)


class Never(BIM):
    """Asks about none."""

    def likely_fooled(self, state, after, found):
        return torch.zeros_like(found.blind)


SHORTCUTS = [EARLY_STOP, Shortcuts(folded=True, early_stop=True)]


@pytest.mark.parametrize("shortcuts", SHORTCUTS, ids=["reference", "folded"])
@pytest.mark.parametrize("size", [3, 16])
def test_who_is_asked_about_changes_no_result(shortcuts, size, batches_of):
    """An image that is asked about in vain goes on where it was."""
    batches_of(size)
    case = case_of("normed_net")
    always, usual, never = (
        attacked(kind(eps=0.04), case.model, case.images, case.labels, shortcuts)
        for kind in (Always, BIM, Never)
    )
    assert 0 < usual.robust.sum() < len(case.images)
    for found in (always, never):
        assert torch.equal(found.adversarial, usual.adversarial)
        assert torch.equal(found.robust, usual.robust)
    assert always.backward_passes <= usual.backward_passes <= never.backward_passes


def test_without_early_stop_nobody_is_asked_about():
    images = greys(20)
    found = attacked(Always(eps=0.1), Threshold(), images, torch.zeros(20).long(), EXACT)
    assert found.forward_passes == found.backward_passes == 20 * 10


def likely(attack, model, images, labels, steps=0, **goal):
    """Who is asked about after one step more, and the margins before and after it."""
    state = started(attack, images, labels, **goal)
    margins = []
    with TargetModel(model) as target:
        for _ in range(steps + 1):
            after, found = attack.step(target, state)
            before, state = state, after
        for each in (before, after):
            values, _ = AttackLoss.margin(target.model, each.adversarial, labels)
            margins.append(values)
    return attack.likely_fooled(before, after, found), *margins


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("loss", ["margin", "cross-entropy"])
def test_asked_about_is_whose_margin_is_expected_to_be_positive(loss, steps):
    """A linear model of two classes keeps what its gradient promises, whichever the loss."""
    model = filled(nn.Sequential(nn.Flatten(), nn.Linear(72, 2))).double().eval()
    images = random_images(200, 2, 6, 6, seed=3) / 2 + 0.25
    labels = predictions(model, images)
    asked, before, after = likely(BIM(eps=0.1, loss=loss), model, images, labels, steps)
    trust = TRUST[0] if steps == 0 else TRUST[1]
    assert (after >= before).all()
    assert torch.equal(asked, before + trust * (after - before) > 0)
    assert 0 < asked.sum() < len(images)


def test_nobody_is_asked_about_who_has_a_class_to_reach():
    model = filled(nn.Sequential(nn.Flatten(), nn.Linear(72, 2))).double().eval()
    images = random_images(200, 2, 6, 6, seed=3)
    labels = 1 - predictions(model, images)
    assert not likely(BIM(eps=0.5), model, images, labels, targeted=True)[0].any()


# Gradients that are not finite


class Blind(torch.autograd.Function):
    """The identity, whose gradient is NaN from the ninth image of a batch on.

    It does not show on as few images as a copy is tried on.
    """

    @staticmethod
    def forward(ctx, features):
        return features.clone()

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone()
        gradient[PROBE:] = torch.nan
        return gradient


class Layer(nn.Module):
    """The identity, with a gradient of its own in bfloat16, or always."""

    def __init__(self, rule, always) -> None:
        super().__init__()
        self.rule, self.always = rule, always

    def forward(self, features):
        odd = self.always or features.dtype == torch.bfloat16
        return self.rule.apply(features) if odd else features


def reduced_otherwise(rule, always=False):
    body = (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), Layer(rule, always), nn.Tanh(), nn.Flatten())
    return filled(nn.Sequential(*body, nn.Linear(64, 3))).float()


IMAGES = random_images(24, 2, 6, 6, seed=6).float()
REDUCED = Shortcuts(folded=True, precision="bfloat16", compared=False)


def seen(model, images, labels, shortcuts):
    """Adversarial images, and whose gradients were never seen."""
    with TargetModel(model, shortcuts) as target:
        target.prepare(AttackLoss.cross_entropy, images, labels)
        assert (target.fast is None) == (shortcuts is EXACT)
        chunks = chunks_of(images, labels, [len(images)])
        made, _ = collected(BIM(eps=0.1).stream(target, chunks, len(images)), images)
        return made, target.blind


def test_whom_the_fast_model_cannot_see_the_reference_model_attacks_from_the_start():
    model = reduced_otherwise(Blind)
    labels = predictions(model, IMAGES)
    found, blind = seen(model, IMAGES, labels, REDUCED)
    assert blind == set()
    rest, _ = seen(model, IMAGES[PROBE:], labels[PROBE:], EXACT)
    assert torch.equal(found[PROBE:], rest)
    few, _ = seen(model, IMAGES[:PROBE], labels[:PROBE], REDUCED)
    assert torch.allclose(found[:PROBE], few)


def test_blind_are_those_whom_the_reference_model_cannot_see_either():
    """Sixteen are sent to it, of which it sees the first eight."""
    model = reduced_otherwise(Blind, always=True)
    labels = predictions(model, IMAGES)
    found, blind = seen(model, IMAGES, labels, REDUCED)
    assert blind == set(range(2 * PROBE, 3 * PROBE))
    assert torch.equal(found[2 * PROBE :], IMAGES[2 * PROBE :])
    moved = (found - IMAGES).abs().amax(dim=(1, 2, 3)) > 0
    assert moved[: 2 * PROBE].all()


# Losses without a slope


class Backwards(torch.autograd.Function):
    """The identity, whose gradient is another image's."""

    @staticmethod
    def forward(ctx, features):
        return features.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.roll(1, dims=0).flip(3)


class Reversed(torch.autograd.Function):
    """Another image's features."""

    @staticmethod
    def forward(ctx, features):
        return features.roll(1, dims=0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.roll(-1, dims=0)


def test_where_the_loss_has_no_slope_a_copy_of_other_gradients_is_dropped_too():
    model = reduced_otherwise(Backwards)
    labels = (predictions(model, IMAGES) + 1) % 3
    with pytest.warns(
        UserWarning,
        match="Attacked in float32, more slowly: in bfloat16, its copy's gradients are others",
    ):
        found = attacked(CW(steps=2), model, IMAGES, labels, replace(REDUCED, compared=True))
    assert found.shortcuts == replace(REDUCED, compared=True, precision="float32")


def test_in_training_with_bfloat16_a_copy_is_held_to_its_logits_alone():
    """The gradients of a model that is trained in bfloat16 are as noisy themselves."""
    model = reduced_otherwise(Backwards)
    labels = predictions(model, IMAGES)
    with TargetModel(model, REDUCED) as target:
        target.prepare(AttackLoss.cross_entropy, IMAGES, labels)
        assert target.shortcuts.precision == "bfloat16"
    other = reduced_otherwise(Reversed)
    with (
        TargetModel(other, REDUCED) as target,
        pytest.warns(UserWarning, match="in bfloat16, its copy's logits are others"),
    ):
        target.prepare(AttackLoss.cross_entropy, IMAGES, labels)


# Passes


@pytest.mark.parametrize("rows", [[], [0, 2], [0, 1, 2]], ids=str)
def test_some_images_of_a_pass(rows):
    with TargetModel(Threshold()) as target:
        images, labels = greys(3), torch.zeros(3).long()
        whole = target.differentiate(AttackLoss.margin, images, labels)
    mask = torch.tensor([row in rows for row in range(3)])
    taken = whole[mask]
    assert taken.exact == whole.exact
    for name in ("logits", "gradient", "values", "blind"):
        assert torch.equal(getattr(taken, name), getattr(whole, name)[rows])
