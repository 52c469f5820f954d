"""Fast models that fail their check are dropped, and why is said."""

import re
import threading
import warnings

import pytest
import torch
from attack_models import case_of, filled
from attack_toys import ALL, EARLY_STOP, FLOAT32, Constant, attacked, predictions, random_images
from torch import nn

from robustbench_pcl.attacks import CW, PGD
from robustbench_pcl.attacks.passes import agree
from robustbench_pcl.attacks.target import COSINE, TargetModel

IMAGES = random_images(24, 2, 6, 6, seed=6).float()


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


class Ways(nn.Module):
    """A network that goes another way for bright images."""

    def __init__(self, model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images) if images.mean() < 2 else self.model(-images)


class Locked(nn.Sequential):
    """A network that cannot be copied."""

    def __init__(self, *layers) -> None:
        super().__init__(*layers)
        self.lock = threading.Lock()


def with_layer(layer, kind=nn.Sequential):
    body = (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), layer, nn.Tanh(), nn.Flatten())
    return filled(kind(*body, nn.Linear(64, 3))).float()


REDUCED = "Attacked in float32, more slowly: "
NO_COPY = "Attacked without a fast copy, more slowly: "
LEFT = {
    "nothing odd": (lambda: with_layer(nn.Identity()), ALL, ""),
    "garbage in bfloat16": (
        lambda: with_layer(Odd(garbage)),
        FLOAT32,
        f"{REDUCED}in bfloat16, its copy's (logits|gradients) are others",
    ),
    "zeros in bfloat16": (
        lambda: with_layer(Odd(lambda features: features * 0)),
        FLOAT32,
        f"{REDUCED}in bfloat16, its copy's (logits|gradients) are others",
    ),
    "NaN in bfloat16": (
        lambda: with_layer(Odd(lambda features: features / 0 * 0)),
        FLOAT32,
        f"{REDUCED}in bfloat16, its copy's (logits|gradients) are others",
    ),
    "no bfloat16": (
        lambda: with_layer(Odd(refuse)),
        FLOAT32,
        f"{REDUCED}RuntimeError in bfloat16: not implemented for 'BFloat16'",
    ),
    "another error in bfloat16": (
        lambda: with_layer(Odd(complain)),
        FLOAT32,
        f"{REDUCED}TypeError in bfloat16: no bfloat16 here",
    ),
    "a model that cannot be copied": (
        lambda: with_layer(nn.Identity(), Locked),
        EARLY_STOP,
        f"{NO_COPY}TypeError in float32: cannot pickle",
    ),
    "another way for other images": (
        lambda: Ways(with_layer(nn.Identity())),
        EARLY_STOP,
        f"{NO_COPY}its structure cannot be told, it may differ from image to image .TraceError",
    ),
    "no gradient anywhere": (Constant, EARLY_STOP, NO_COPY),
}


@pytest.mark.parametrize("case", LEFT)
def test_a_fast_model_that_fails_its_check_is_dropped_and_it_is_said_once(case):
    make, left, words = LEFT[case]
    model = make()
    labels = predictions(model, IMAGES)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        wanted = attacked(PGD(eps=0.1, steps=4), model, IMAGES, labels, ALL)
    assert wanted.shortcuts == left
    assert [re.match(words, str(each.message)) is not None for each in said] == [True] * bool(words)
    if left == EARLY_STOP:  # then the images are the reference model's, to the bit
        expected = attacked(PGD(eps=0.1, steps=4), model, IMAGES, labels, EARLY_STOP)
        assert torch.equal(wanted.adversarial, expected.adversarial)
        assert torch.equal(wanted.robust, expected.robust)


def test_gradients_that_are_zero_are_not_called_others():
    """The first images are wrong already, so C&W's loss has no slope: the logits' own is compared.

    A copy that is kept is kept without a word: a warning would be an error here.
    """
    case = case_of("normed_net")
    labels = (case.predictions + 1) % 5
    found = attacked(CW(steps=2), case.model, case.images, labels, FLOAT32)
    assert found.shortcuts == FLOAT32


def test_a_loss_that_fails_on_the_model_itself_says_so():
    def broken(model, images, labels):
        raise ZeroDivisionError

    model = with_layer(nn.Identity())
    with TargetModel(model, ALL) as entered, pytest.raises(ZeroDivisionError):
        entered.prepare(broken, IMAGES, torch.zeros(24).long())


AGREE = [
    ([(1, 0), (0, 1), (1, 1)], [(2, 0), (0, 3), (5, 5)], True),
    ([(1, 0), (0, 1), (1, 1)], [(1, 0), (0, 1), (-1, 1)], True),  # most of them
    ([(1, 0), (0, 1), (1, 1)], [(1, 0), (1, 0), (-1, 1)], False),
    ([(1, 0), (1, 0), (1, 0)], [(-1, 0), (-1, 0), (-1, 0)], False),
    ([(1, 0), (1, 0), (1, 0)], [(0, 0), (0, 0), (0, 0)], False),
    ([(0, 0), (0, 0), (0, 0)], [(0, 0), (0, 0), (0, 0)], False),  # nothing is known
    ([(0, 0), (0, 0), (1, 0)], [(1, 1), (1, 1), (1, 0)], True),
    ([(1, 0), (1, 0), (1, 0)], [(1, 0), (1, 0), (float("nan"), 0)], True),  # as if it were (-1, 0)
    ([(1, 0), (1, 0), (1, 0)], [(1, 0), (float("nan"), 0), (float("nan"), 0)], False),
    ([(1e-40, 0), (0, 1e-40), (1e-30, 1e-30)], [(1, 0), (0, 1), (1, 1)], True),
    ([(1e-40, 0), (0, 1e-40), (1e-30, 1e-30)], [(0, 1), (1, 0), (1, 1)], False),
]


@pytest.mark.parametrize(("expected", "found", "agreed"), AGREE)
def test_gradients_agree_if_most_point_the_same_way(expected, found, agreed):
    given = (torch.tensor(rows, dtype=torch.float32)[:, None, None] for rows in (expected, found))
    assert agree(*given, COSINE["float32"]) == agreed
