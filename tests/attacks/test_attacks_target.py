"""Beside a fast model, verdicts are the reference model's, which is left as it was."""

import copy
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from attack_models import case_of, fast_of
from attack_toys import (
    ALL,
    EARLY_STOP,
    EVERY,
    FLOAT32,
    SIGN_ATTACKS,
    WEAK,
    Counted,
    Tally,
    attacked,
    careless,
    chunks_of,
    collected,
    predictions,
    short,
    state_of,
)
from torch import nn

from robustbench_pcl.attacks import ATTACKS, BIM, CW
from robustbench_pcl.attacks.fast_model import EXACT, Shortcuts, shortcuts_for
from robustbench_pcl.attacks.target import PROBE, TargetModel

LABELS = torch.zeros(16).long()


class Sharp(nn.Module):
    """Class 1 from 0.5032 on, class 0 below, after a convolution that changes nothing.

    Near 0.5, bfloat16 has steps of 1/256: from 0.50195 on it says 0.50390625.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        with torch.no_grad():
            self.conv.weight.fill_(1)
            self.conv.bias.fill_(0)

    def forward(self, images):
        value = self.conv(images).float().mean(dim=(1, 2, 3)) - 0.5032
        return torch.stack([-value, value], dim=1)


SHARP = Sharp()
GREY, ZEROS = torch.full((3, 1, 1, 1), 0.5), torch.zeros(3).long()


def reduced(images):
    """The classes that the fast model in bfloat16 gives."""
    return predictions(fast_of(SHARP, "bfloat16").model, images)


def test_who_is_fooled_in_bfloat16_alone_is_robust():
    found = attacked(BIM(eps=0.0025, loss="margin"), SHARP, GREY, ZEROS, ALL)
    assert found.shortcuts.precision == "bfloat16"
    assert (reduced(found.adversarial) == 1).all()
    assert found.robust.all()
    # All ten steps were taken: what the reference model does not confirm stops nobody. Then all
    # once more by that one, for the last iterate's class is another in bfloat16.
    assert torch.allclose(found.adversarial, GREY + 0.0025)
    assert found.backward_passes == 2 * 3 * 10 + 2 * 3
    verdicts = 2 + 1 + 1  # the steps at 0.502 and 0.50225, the last iterate, that of the second run
    compared = 1
    assert found.forward_passes - found.backward_passes >= 3 * (verdicts + compared)
    assert (found.classes == 0).all()


def test_who_is_fooled_in_bfloat16_first_goes_on_until_float32_is_fooled():
    found = attacked(BIM(eps=0.005, loss="margin"), SHARP, GREY, ZEROS, ALL)
    assert not found.robust.any()
    assert torch.allclose(found.adversarial, GREY + 7 * 0.0005)
    for step in (4, 5, 6):
        assert (reduced(GREY + step * 0.0005) == 1).all()
        assert (predictions(SHARP, GREY + step * 0.0005) == 0).all()


def test_carlini_wagner_keeps_only_what_fools_the_reference_model():
    """A success is what float32 says it is, also where bfloat16 was fooled with less."""
    found = attacked(CW(c=10.0, steps=60, learning_rate=0.001), SHARP, GREY, ZEROS, ALL)
    assert found.shortcuts.precision == "bfloat16"
    assert not found.robust.any()
    adversarial = found.adversarial
    assert torch.allclose(adversarial, torch.full_like(adversarial, 0.5032), atol=5e-4)


def left_of(shortcuts, attack):
    """Those that an attack takes: some bear no less than float32, as one without gradients."""
    member = ATTACKS[attack]
    coarse = member.needs_gradient and member.coarsest == "bfloat16"
    if coarse or not shortcuts.folded:
        return shortcuts
    return replace(shortcuts, precision="float32")


def reduced_case(attack):
    """A model and images in float32, and an attack that some of them withstand."""
    case = case_of("normed_net")
    weak = WEAK.get(attack, {"eps": 0.04})
    model = copy.deepcopy(case.model).float()
    return short(attack, **weak), model, case.images.float(), case.labels


@pytest.mark.parametrize("attack", EVERY)
def test_some_images_withstand_and_some_do_not_in_every_precision(attack):
    """``attacked`` itself checks that whoever left early fools the model in float32."""
    for shortcuts in (EXACT, FLOAT32, ALL):
        found = attacked(*reduced_case(attack), shortcuts)
        assert found.shortcuts == left_of(shortcuts, attack)
        assert 0 < found.robust.sum() < 16


@pytest.mark.parametrize("attack", SIGN_ATTACKS)
def test_who_withstands_every_step_withstands_the_last(attack):
    chosen, model, images, labels = reduced_case(attack)
    every, last = (
        attacked(chosen, model, images, labels, replace(FLOAT32, early_stop=early_stop))
        for early_stop in (True, False)
    )
    assert not (every.robust & ~last.robust).any()
    assert torch.equal(every.adversarial[every.robust], last.adversarial[every.robust])
    assert every.backward_passes < last.backward_passes or attack == "fgsm"


class Known(nn.Module):
    """A model that remembers which of its copies were used."""

    used: ClassVar[set[int]] = set()

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images):
        Known.used.add(id(self))
        return self.model(images)


@pytest.mark.parametrize(("shortcuts", "copies"), [(EXACT, 0), (Shortcuts(folded=True), 1)])
def test_exact_leaves_the_model_itself_in_use(shortcuts, copies):
    case, model = case_of("conv_net"), Known(case_of("conv_net").model)
    Known.used.clear()
    attacked(BIM(steps=3), model, case.images, case.labels, shortcuts)
    assert id(model) in Known.used
    assert len(Known.used) == 1 + copies


def test_shortcuts_of_a_device_are_all_that_leave_out_no_step():
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        found = shortcuts_for(torch.device(device))
        assert (found.folded, found.compiled, found.early_stop) == (True, True, False)


# What is left behind


@pytest.mark.parametrize("attack", EVERY)
def test_the_fast_model_takes_no_random_numbers_and_leaves_the_model_as_it_was(attack):
    chosen, model, images, labels = reduced_case(attack)
    model = careless(model)
    state, before = torch.random.get_rng_state(), state_of(model)
    attacked(chosen.changed(steps=min(chosen.steps, 5)), model, images, labels, ALL)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert state_of(model) == before


def test_the_model_is_put_back_after_an_error_too():
    model = careless(case_of("conv_net").model)
    before = state_of(model)

    def attack():
        with TargetModel(model, ALL) as entered:
            entered.differentiate(lambda *_: 1 / 0, case_of("conv_net").images, LABELS)

    with pytest.raises(ZeroDivisionError):
        attack()
    assert state_of(model) == before


# Passes


@pytest.mark.parametrize("shortcuts", [EXACT, EARLY_STOP, FLOAT32, ALL], ids=str)
@pytest.mark.parametrize("attack", EVERY)
def test_passes_are_counted_as_they_are_made(attack, shortcuts):
    chosen, model, images, labels = reduced_case(attack)
    counted = Counted(model)
    with TargetModel(counted, shortcuts) as entered:
        chunk = chunks_of(images, labels, [16])
        collected(chosen.changed(steps=min(chosen.steps, 5)).stream(entered, chunk, 16), images)
        assert entered.shortcuts == left_of(shortcuts, attack)
        assert entered.forward_passes == Tally.forward_images
        assert entered.backward_passes == Tally.backward_images


@pytest.mark.parametrize("attack", SIGN_ATTACKS)
def test_passes_per_image_without_early_stop(attack):
    chosen, model, images, labels = reduced_case(attack)
    exact, fast = (
        attacked(chosen, model, images, labels, shortcuts)
        for shortcuts in (EXACT, replace(ALL, early_stop=False))
    )
    assert exact.backward_passes == chosen.steps * 16
    saved = exact.backward_passes + 2 * min(PROBE, 16) - fast.backward_passes
    assert saved >= 0
    assert saved == 0 or chosen.memoryless  # who cannot move takes no further steps
    assert exact.forward_passes == exact.backward_passes
    # Every last iterate is judged, and compared where it does not fool.
    assert fast.forward_passes == fast.backward_passes + 16 + fast.robust.sum()


def test_a_gradient_for_a_defence_is_the_reference_model_s():
    case = case_of("conv_net")

    def loss(model, images, labels):
        logits = model(images)
        return nn.functional.cross_entropy(logits, labels, reduction="none"), logits

    with TargetModel(case.model) as entered:
        found = entered.differentiate(loss, case.images, case.labels).gradient
        assert (entered.forward_passes, entered.backward_passes) == (16, 16)
    images = case.images.clone().requires_grad_(True)
    model = copy.deepcopy(case.model).eval()
    (expected,) = torch.autograd.grad(loss(model, images, case.labels)[0].sum(), images)
    assert torch.equal(found, expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("attack", EVERY)
def test_an_accelerator_s_images_fool_the_model_itself(attack, exact):
    chosen, model, images, labels = reduced_case(attack)
    found = chosen(model.cuda(), images.cuda(), labels.cuda(), exact=exact)
    assert found.is_cuda
    assert not (predictions(model, found) == labels.cuda()).all()
