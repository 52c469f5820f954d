"""Shortcuts that are dropped where they fail, and verdicts that are the plain model's."""

import copy
import threading
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from attack_toys import (
    SIGN_ATTACKS,
    Constant,
    Counted,
    Tally,
    careless,
    generator,
    predictions,
    random_images,
    short,
    state_of,
)
from engine_toys import case_of, filled
from torch import nn

from robustbench_pcl.attacks import ATTACKS, BIM, FGSM, PGD
from robustbench_pcl.attacks.base import Goal, draw_seeds
from robustbench_pcl.attacks.losses import attack_loss
from robustbench_pcl.engine.shortcuts import EXACT, Shortcuts, shortcuts_for
from robustbench_pcl.engine.twin import Twin
from robustbench_pcl.engine.victim import ALIKE, PROBE, Evaluation, Victim, agree
from robustbench_pcl.evaluation.robustness import robustness

EVERY = list(ATTACKS)
ALL = Shortcuts(folded=True, precision="bfloat16", retiring=True, compiled=True)
FLOAT32 = replace(ALL, precision="float32")
DROPPED = Shortcuts(retiring=True)


class Odd(nn.Module):
    """The identity, but of bfloat16."""

    def __init__(self, of_bfloat16) -> None:
        super().__init__()
        self.of_bfloat16 = of_bfloat16

    def forward(self, features):
        return self.of_bfloat16(features) if features.dtype == torch.bfloat16 else features


def garbage(features):
    """Something of another image's."""
    return features.roll(1, dims=0).flip(3)


def refuse(features):
    raise RuntimeError("not implemented for 'BFloat16'")


def complain(features):
    raise TypeError("no bfloat16 here")


class ReadsWeight(nn.Module):
    """A network that looks into its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(64, 3)

    def forward(self, images):
        features = torch.tanh(self.norm(self.conv(images))).flatten(1)
        return nn.functional.linear(features, self.out.weight, self.out.bias)


class Locked(ReadsWeight):
    """One that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def with_layer(layer):
    body = (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), layer, nn.Tanh(), nn.Flatten())
    return filled(nn.Sequential(*body, nn.Linear(64, 3))).float()


IMAGES = random_images(24, 2, 6, 6, seed=6).float()


def left_of(model, wanted, attack=None, images=IMAGES):
    """What was left of some shortcuts, having checked the verdicts."""
    labels = predictions(model, images)
    attack = attack or PGD(eps=0.1, steps=4)
    found = robustness(model, attack, images, labels, shortcuts=wanted)
    assert torch.equal(found.robust, predictions(model, found.adversarial) == labels)
    return found.shortcuts


@pytest.mark.parametrize(
    ("make", "left"),
    [
        (lambda: with_layer(nn.Identity()), ALL),
        (lambda: with_layer(Odd(garbage)), FLOAT32),
        (lambda: with_layer(Odd(torch.zeros_like)), FLOAT32),
        (lambda: with_layer(Odd(lambda features: features / 0 * 0)), FLOAT32),
        (lambda: with_layer(Odd(refuse)), FLOAT32),
        (lambda: with_layer(Odd(complain)), FLOAT32),
        (lambda: filled(ReadsWeight()).float(), FLOAT32),
        (lambda: filled(Locked()).float(), DROPPED),
        (Constant, DROPPED),
    ],
    ids=[
        "nothing odd",
        "garbage in bfloat16",
        "zeros in bfloat16",
        "NaN in bfloat16",
        "no bfloat16",
        "another error in bfloat16",
        "a layer that is looked into",
        "a model that cannot be copied",
        "no gradient anywhere",
    ],
)
def test_a_shortcut_that_fails_its_check_is_dropped(make, left):
    assert left_of(make(), ALL) == left
    assert left_of(make(), EXACT) == EXACT
    if left == ALL:
        assert left_of(make(), FLOAT32) == FLOAT32


def test_a_loss_that_fails_on_the_model_itself_says_so():
    def broken(model, images):
        raise ZeroDivisionError

    with Victim(with_layer(nn.Identity()), ALL) as victim, pytest.raises(ZeroDivisionError):
        victim.settle(broken, IMAGES)


def evaluation(*rows):
    gradient = torch.tensor(rows, dtype=torch.float32)[:, None, None]
    return Evaluation(gradient, torch.zeros(len(rows)), torch.zeros(len(rows), 2))


@pytest.mark.parametrize(
    ("expected", "found", "agreed"),
    [
        ([(1, 0), (0, 1), (1, 1)], [(2, 0), (0, 3), (5, 5)], True),
        ([(1, 0), (0, 1), (1, 1)], [(1, 0), (0, 1), (-1, 1)], True),  # most of them
        ([(1, 0), (0, 1), (1, 1)], [(1, 0), (1, 0), (-1, 1)], False),
        ([(1, 0), (1, 0), (1, 0)], [(-1, 0), (-1, 0), (-1, 0)], False),
        ([(1, 0), (1, 0), (1, 0)], [(0, 0), (0, 0), (0, 0)], False),
        ([(0, 0), (0, 0), (0, 0)], [(0, 0), (0, 0), (0, 0)], False),  # nothing is known
        ([(0, 0), (0, 0), (1, 0)], [(1, 1), (1, 1), (1, 0)], True),
        ([(1, 0), (1, 0), (1, 0)], [(1, 0), (1, 0), (float("nan"), 0)], False),
        ([(1e-40, 0), (0, 1e-40), (1e-30, 1e-30)], [(1, 0), (0, 1), (1, 1)], True),
        ([(1e-40, 0), (0, 1e-40), (1e-30, 1e-30)], [(0, 1), (1, 0), (1, 1)], False),
    ],
)
def test_gradients_agree_if_most_point_the_same_way(expected, found, agreed):
    assert agree(evaluation(*expected), evaluation(*found), ALIKE["float32"]) == agreed


# Verdicts


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


def sharp_case(eps):
    """Grey images that are of class 0, and what ten steps of an attack leave of them."""
    model, images, labels = Sharp(), torch.full((3, 1, 1, 1), 0.5), torch.zeros(3).long()
    attack = BIM(eps=eps, loss="margin")
    return model, images, labels, robustness(model, attack, images, labels, shortcuts=ALL)


def test_who_is_fooled_in_bfloat16_alone_is_robust():
    model, images, labels, found = sharp_case(0.0025)
    assert found.shortcuts.precision == "bfloat16"
    twin = Twin(model, images[:1], "bfloat16").model
    assert (predictions(twin, found.adversarial) != labels).all()
    assert (predictions(model, found.adversarial) == labels).all()
    assert found.robust.all()
    # All ten steps were taken: suspicions that are not confirmed stop nobody.
    assert torch.allclose(found.adversarial, images + 0.0025)
    assert found.backward_passes == 3 * 10 + 2 * 3
    clean, suspected = 3, 3 * 3  # the steps at 0.502, 0.50225 and, last, 0.5025
    assert found.forward_passes == found.backward_passes + clean + suspected


def test_who_is_fooled_in_bfloat16_first_goes_on_until_float32_is_fooled():
    model, images, labels, found = sharp_case(0.005)
    twin = Twin(model, images[:1], "bfloat16").model
    assert not found.robust.any()
    assert torch.allclose(found.adversarial, images + 7 * 0.0005)
    for step in (4, 5, 6):  # from 0.502 on the twin is fooled
        assert (predictions(twin, images + step * 0.0005) != labels).all()
        assert (predictions(model, images + step * 0.0005) == labels).all()


@pytest.mark.parametrize("attack", EVERY)
def test_verdicts_in_bfloat16_are_the_model_s_own(attack):
    case = case_of("normed_net")
    model, images = copy.deepcopy(case.model).float(), case.images.float()
    parameters = {"eps": 0.04} if attack in SIGN_ATTACKS else {"c": 3.0, "learning_rate": 0.05}
    chosen = short(attack, 30, **parameters)
    found = robustness(model, chosen, images, case.labels, shortcuts=ALL)
    assert found.shortcuts.precision == "bfloat16"
    assert torch.equal(found.clean, predictions(model, images) == case.labels)
    verdicts = predictions(model, found.adversarial) == case.labels
    assert torch.equal(found.robust, verdicts & found.clean)
    assert 0 < found.robust.sum() < len(images) or attack not in SIGN_ATTACKS
    assert not found.robust.all()


def test_carlini_wagner_keeps_only_what_fools_the_plain_model():
    """A success is what float32 says it is, also where bfloat16 was fooled with less."""
    model, images, labels = Sharp(), torch.full((3, 1, 1, 1), 0.5), torch.zeros(3).long()
    attack = ATTACKS["cw"](c=10.0, steps=60, learning_rate=0.001)
    with Victim(model, ALL) as victim:
        found = attack.perturb(victim, images, Goal(labels), draw_seeds(3, generator()))
        assert victim.shortcuts.precision == "bfloat16"
    assert (predictions(model, found) == 1).all()
    assert torch.allclose(found, torch.full_like(found, 0.5032), atol=5e-4)


# What is exact


@pytest.mark.parametrize("attack", EVERY)
def test_an_exact_evaluation_is_the_attack_itself_to_the_bit(attack):
    case = case_of("conv_net")
    for kind in (torch.float64, torch.float32):
        model, images = copy.deepcopy(case.model).to(kind), case.images.to(kind)
        chosen = short(attack, 15)
        found = robustness(model, chosen, images, case.labels, shortcuts=EXACT, seed=3)
        expected = chosen(model, images, case.labels, generator=generator(3))
        assert torch.equal(found.adversarial, expected)
        assert torch.equal(found.robust, predictions(model, expected) == case.labels)
        assert found.shortcuts == EXACT


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
    robustness(model, BIM(steps=3), case.images, case.labels, shortcuts=shortcuts)
    assert id(model) in Known.used
    assert len(Known.used) == 1 + copies


def test_shortcuts_of_a_device_are_everything_that_pays():
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        found = shortcuts_for(torch.device(device))
        assert found.prepared
        assert (found.folded, found.retiring, found.compiled) == (True, True, True)
    assert not EXACT.prepared
    assert not Shortcuts(retiring=True).prepared
    assert Shortcuts(precision="bfloat16").prepared


# What is left behind


@pytest.mark.parametrize("attack", EVERY)
def test_no_random_numbers_of_the_process_are_taken(attack):
    case = case_of("normed_net")
    model, images = copy.deepcopy(case.model).float(), case.images.float()
    before = torch.random.get_rng_state()
    robustness(model, short(attack, 5), images, case.labels, shortcuts=ALL)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_model_is_put_back_after_an_error_too():
    case = case_of("conv_net")
    model = careless(case.model)
    before = state_of(model)

    def broken(*_):
        raise ZeroDivisionError

    def attack():
        with Victim(model, ALL) as victim:
            victim.settle(attack_objective(case), case.images)
            victim.evaluate(broken, case.images)

    with pytest.raises(ZeroDivisionError):
        attack()
    assert state_of(model) == before


def attack_objective(case):
    return lambda model, images: attack_loss("margin")(model, images, case.labels[: len(images)])


# Passes


@pytest.mark.parametrize("shortcuts", [EXACT, DROPPED, FLOAT32, ALL], ids=str)
@pytest.mark.parametrize("attack", EVERY)
def test_passes_are_counted_as_they_are_made(attack, shortcuts):
    """Only the image that shows which layer follows which is not counted, once a twin."""
    case = case_of("normed_net")
    model, images = Counted(copy.deepcopy(case.model).float()), case.images.float()
    found = robustness(model, short(attack, 5), images, case.labels, shortcuts=shortcuts)
    twins = int(shortcuts.prepared)
    assert found.shortcuts == shortcuts
    assert found.forward_passes == Tally.forward_images - twins
    assert found.backward_passes == Tally.backward_images


@pytest.mark.parametrize("attack", SIGN_ATTACKS)
def test_passes_an_image_without_retirement(attack):
    case = case_of("normed_net")
    model, count = copy.deepcopy(case.model).float(), len(case.images)
    chosen = short(attack, 5)
    exact, fast = (
        robustness(model, chosen, case.images.float(), case.labels, shortcuts=shortcuts)
        for shortcuts in (EXACT, replace(ALL, retiring=False))
    )
    probed = 2 * min(PROBE, count)
    assert exact.backward_passes == chosen.steps * count
    assert fast.backward_passes == exact.backward_passes + probed
    for found in (exact, fast):  # clean and adversarial images are classified
        assert found.forward_passes == found.backward_passes + 2 * count


def test_an_image_that_leaves_takes_no_further_pass():
    """Steps of 0.01 to a threshold of 0.5: fooled by the first, by the sixth, at once, never."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[-1.0], [1.0]]))
        model[1].bias.copy_(torch.tensor([0.5, -0.5]))
    pixels = torch.tensor([0.495, 0.445, 0.7, 0.2], dtype=torch.float64).repeat(3).view(12, 1, 1, 1)
    labels = torch.zeros(12).long()
    found = robustness(model, BIM(eps=0.1), pixels, labels, shortcuts=DROPPED)
    assert found.clean.tolist() == [True, True, False, True] * 3
    assert found.robust.tolist() == [False, False, False, True] * 3
    steps = (found.adversarial - pixels).flatten() / 0.01
    assert torch.allclose(steps, torch.tensor([1.0, 6.0, 0.0, 10.0]).double().repeat(3))
    # The pass that finds an image adversarial is the one that would have been its next step.
    assert found.backward_passes == 3 * (2 + 7 + 0 + 10)
    assert found.forward_passes == found.backward_passes + 12 + 3


@pytest.mark.parametrize("shortcuts", [EXACT, ALL], ids=str)
def test_no_images_are_no_trouble(shortcuts):
    case = case_of("normed_net")
    nothing = case.images[:0].float()
    found = robustness(
        copy.deepcopy(case.model).float(), FGSM(), nothing, case.labels[:0], shortcuts=shortcuts
    )
    assert found.adversarial.shape == nothing.shape
    assert len(found.clean) == len(found.robust) == 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("shortcuts", [EXACT, FLOAT32, ALL, None], ids=str)
@pytest.mark.parametrize("attack", EVERY)
def test_an_accelerator_s_verdicts_are_the_model_s_own(attack, shortcuts):
    case = case_of("normed_net")
    model = copy.deepcopy(case.model).float().cuda()
    images, labels = case.images.float().cuda(), case.labels.cuda()
    parameters = {"eps": 0.04} if attack in SIGN_ATTACKS else {"c": 3.0, "learning_rate": 0.05}
    found = robustness(model, short(attack, **parameters), images, labels, shortcuts=shortcuts)
    assert found.adversarial.device == images.device
    right = predictions(model, found.adversarial) == labels
    assert torch.equal(found.robust, right & found.clean if found.shortcuts.retiring else right)
    assert not found.robust.all()
