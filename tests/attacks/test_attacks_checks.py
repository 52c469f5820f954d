"""What cannot be attacked is refused with what was found and what to do about it."""

import re
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from attack_toys import EVERY, careless, linear_model, predictions, random_images, state_of
from torch import nn

from robustbench_pcl import evaluate
from robustbench_pcl.attacks import ATTACKS, BIM, FGSM
from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.attacks.checks import check_adversarial, check_finite, check_model
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.errors import InvalidInputError, UserError

INF, NAN = float("inf"), float("nan")
IN_UNIT = re.escape("float (N, C, H, W) in [0, 1]")


def with_pixel(images, value):
    images = images.clone()
    images[3, 0, 2, 2] = value
    return images


IMAGES = {
    "a list": (lambda x: x.tolist(), r"images are a list, not a torch.Tensor. .*as_tensor\(images"),
    "an array": (lambda x: x.numpy(), r"images are a ndarray, not .*torch.as_tensor\(images\)"),
    "bytes": (
        lambda x: (x * 255).byte(),
        rf"images are uint8 \(12, 1, 4, 4\); .*{IN_UNIT}. .*images.float\(\) / 255",
    ),
    "one image": (
        lambda x: x[0],
        r"must be float \(N, C, H, W\), not float64 \(1, 4, 4\).*images\[None\]",
    ),
    "grey ones without channels": (
        lambda x: x[:, 0],
        r"not float64 \(12, 4, 4\).*images\[:, None\]",
    ),
    "up to 255": (
        lambda x: with_pixel(x * 200, 255.0),
        r"pixels from \S+ to 255; they must be in \[0, 1\].*normalisation inside the model, divide",
    ),
    "normalised ones": (
        lambda x: with_pixel(x - 0.5, -0.75),
        r"pixels from -0.75 to 0\.\d+; .*normalisation inside the model",
    ),
    "just above 1": (
        lambda x: with_pixel(x, 1.00000024),
        r"pixels from \S+ to 1.00000024; they must be in .*images.clamp\(0, 1\)",
    ),
    "just below 0": (lambda x: with_pixel(x, -1e-7), r"pixels from -1e-07 to .*clamp\(0, 1\)"),
    "NaN": (
        lambda x: with_pixel(x, NAN),
        r"Image 3 has pixels that are NaN.*Leave such images out",
    ),
    "infinite ones": (lambda x: with_pixel(x, INF), r"pixels from \S+ to inf; "),
}
NAMES = {
    "a list": (lambda y: y.tolist(), r"{0} are a list, not a torch.Tensor. .*as_tensor\({0}\)"),
    "one too few": (lambda y: y[1:], r"{0} must be int64 \(N,\) with N = 12, not int64 \(11,\)"),
    "float": (lambda y: y.double(), r"with N = 12, not float64 \(12,\). .*{0}.long\(\)"),
    "int32": (lambda y: y.int(), r"with N = 12, not int32 \(12,\). .*{0}.long\(\)"),
    "one-hot": (lambda y: F.one_hot(y, 3), r"not int64 \(12, 3\). .*{0}.argmax\(dim=1\)"),
    "negative": (
        lambda y: y - 2,
        r"{0} go down to -2; classes are counted from 0.*{0} >= 0".replace(
            "{0} >= 0", "labels >= 0"
        ),
    ),
    "too large": (lambda y: y + 5, r"{0} go up to 7, but the model gives 3 logits: classes 0 to 2"),
}


@dataclass
class Given:
    model: nn.Module
    images: torch.Tensor
    labels: torch.Tensor


@pytest.fixture
def given():
    images = random_images(12, 1, 4, 4)
    return Given(
        careless(nn.Sequential(*linear_model(3, 16), nn.Tanh())), images, torch.arange(12) % 3
    )


def refuses(given, words, images, labels, *, targets=None, attack=None):
    """In a call and, where that is possible, in an evaluation; the model is given back."""
    before, attack = state_of(given.model), attack or BIM()
    with pytest.raises(InvalidInputError, match=f"(?s){words}") as caught:
        attack(given.model, images, labels, targets=targets)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UserError)
    assert caught.value.cause
    assert caught.value.cure
    if targets is None:
        with pytest.raises(InvalidInputError, match=f"(?s){words}"):
            evaluate(given.model, images, labels, attack)
    assert state_of(given.model) == before


@pytest.mark.parametrize("case", IMAGES)
def test_images_are_refused_with_their_kind_and_the_cure(given, case):
    change, words = IMAGES[case]
    refuses(given, words, change(given.images), given.labels)


@pytest.mark.parametrize("name", EVERY)
def test_every_attack_refuses_images_that_are_none(given, name):
    refuses(
        given,
        "to 127",
        (given.images * 127).round().clamp_min(127),
        given.labels,
        attack=ATTACKS[name](),
    )


@pytest.mark.parametrize("case", NAMES)
def test_labels_are_refused_with_what_they_are_and_the_cure(given, case):
    change, words = NAMES[case]
    refuses(given, words.replace("{0}", "labels"), given.images, change(given.labels))


@pytest.mark.parametrize("case", NAMES)
def test_targets_are_refused_like_labels(given, case):
    change, words = NAMES[case]
    words = words.replace("{0}", "targets")
    refuses(given, words, given.images, given.labels, targets=change(given.labels))


def test_an_evaluation_of_nothing_is_refused(given):
    with pytest.raises(InvalidInputError, match=r"There are no images\. Give at least one"):
        evaluate(given.model, given.images[:0], given.labels[:0])


# Models


class Answers(nn.Module):
    """A model of three classes of whose logits something else is made."""

    def __init__(self, make) -> None:
        super().__init__()
        self.inner, self.make, self.calls = linear_model(3, 16), make, 0

    def forward(self, images):
        self.calls += 1
        return self.make(self, images, self.inner(images))


def flat(images):
    return images.flatten(1)


def fails(message):
    def make(model, images, logits):
        raise KeyError(message)

    return make


MODELS = {
    "an error": (
        fails("broken"),
        r"cannot be called with images float64 \(8, 1, 4, 4\): "
        r"KeyError: 'broken' .*model\(images\[:1\]\)",
    ),
    "a tuple": (lambda m, x, z: (z, x), r"a tuple of 2, not logits \(N, K\).*forward returns"),
    "a dictionary": (lambda m, x, z: {"logits": z}, r"returns a dict of 1, not logits"),
    "nothing": (lambda m, x, z: None, r"returns a NoneType, not logits"),
    "images": (
        lambda m, x, z: x,
        r"returns float64 \(8, 1, 4, 4\) for 8 images, not float logits "
        r"\(8, K\).*one row of logits per image",
    ),
    "classes": (lambda m, x, z: z.argmax(dim=1), r"returns int64 \(8,\) for 8 images"),
    "integers": (lambda m, x, z: z.round().long(), r"returns int64 \(8, 3\) for 8 images"),
    "one row": (lambda m, x, z: z.mean(dim=0, keepdim=True), r"float64 \(1, 3\) for 8 images"),
    "one logit": (
        lambda m, x, z: z[:, :1],
        r"returns float64 \(8, 1\): 1 logit per image, where two "
        r"or more.*torch.cat\(\[-z, z\], dim=1\) / 2",
    ),
    "NaN": (
        lambda m, x, z: torch.where(flat(x)[:, :1] > 0.5, NAN, z),
        r"logits are not finite for \d of 8 clean images \(image \d: \[nan, nan, nan\]\).*divides",
    ),
    "infinity": (
        lambda m, x, z: z / 0,
        r"logits are not finite for 8 of 8 clean images \(image 0: "
        r"\[-?inf",
    ),
    "noise": (
        lambda m, x, z: z + m.calls,
        r"is randomised: asked twice, it answers 8 of 8 images "
        r"differently.*forwards=20",
    ),
    "the batch's mean": (
        lambda m, x, z: z - z.mean(dim=0),
        r"answer to an image depends on the other "
        r"images in its batch.*track_running_stats=True",
    ),
    "a detached answer": (
        lambda m, x, z: z.detach(),
        r"No gradient reaches the model's pixels: .*"
        r"differentiable version",
    ),
    "rounded pixels": (
        lambda m, x, z: m.inner(x.round()),
        r"gradient of the model's logits is 0 in every "
        r"pixel of 8 images.*rounding, argmax or detach.*differentiable version",
    ),
    "roots of nothing": (
        lambda m, x, z: (
            z
            + (0 * flat(x)).sum(dim=1, keepdim=True).sqrt() * 0
            + (0 * x).sqrt().flatten(1).sum(dim=1, keepdim=True)
        ),
        r"is NaN or infinite in every pixel of 8 images tried.*derivative",
    ),
}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("case", MODELS)
def test_models_are_refused_with_what_they_answer_and_the_cure(given, case, exact):
    make, words = MODELS[case]
    labels = given.labels % 2
    for call in (evaluate, lambda model, *rest, exact: BIM()(model, *rest, exact=exact)):
        model = Answers(make).train()
        with pytest.raises(InvalidInputError, match=f"(?s){words}") as caught:
            call(model, given.images, labels, exact=exact)
        assert caught.value.cure
        assert model.training
        assert all(value.requires_grad for value in model.parameters())


def test_images_of_another_type_than_the_weights_are_named(given):
    words = r"images float32 \(8, 1, 4, 4\).*Its weights are float64: images.to\(torch.float64\)"
    refuses(given, words, given.images.float(), given.labels)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_images_on_another_device_than_the_weights_are_named(given):
    with pytest.raises(InvalidInputError, match=r"weights are on cpu: images.to\('cpu'\)"):
        BIM()(given.model, given.images.cuda(), given.labels.cuda())


def test_layers_that_have_no_weights_yet_are_named(given):
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(InvalidInputError, match=r"lazy layers.*model\(images\[:1\]\)"):
        BIM()(model, given.images, given.labels)


def test_one_image_has_no_company(given):
    """Statistics of its own batch are the same each time; nobody can tell."""
    model = Answers(lambda m, x, z: z - z.mean())
    made = FGSM(eps=0.1)(model, given.images[:1], given.labels[:1], exact=True)
    assert not torch.equal(made, given.images[:1])


def test_a_model_without_a_slope_may_be_attacked_without_gradients(given):
    class White(Attack):
        name: str = "white"
        norm: str = "linf"
        needs_gradient = False

        def perturb(self, target, images, goal, seeds):
            return torch.ones_like(images)

    model = Answers(lambda m, x, z: m.inner(x.round()))
    assert (White()(model, given.images, given.labels) == 1).all()


def test_who_is_told_one_of_many_is_not_finite_hears_which():
    logits = torch.zeros(6, 7)
    logits[4, 2], logits[5, 0] = NAN, INF
    words = r"not finite for 2 of 6 rows \(image 4: \[0.0, 0.0, nan, 0.0, 0.0\]\)"
    with pytest.raises(InvalidInputError, match=words):
        check_finite(logits, "rows")
    check_finite(logits[:4], "rows")


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_the_passes_of_the_trial_are_counted(given, count):
    with TargetModel(given.model) as target:
        check_model(target, given.images[:count], given.labels[:count])
        few, alone = min(count, 8), min(count, 4) if count > 1 else 0
        assert (target.forward_passes, target.backward_passes) == (3 * few + alone, few)
        check_model(target, given.images[:count], given.labels[:count], gradient=False)
        assert target.backward_passes == few


# What an attack gives back

FAULTY = {
    "another shape": (
        lambda x: x[:, :, :2],
        r"gave float32 \(12, 1, 2, 4\) for images float32 \(12",
    ),
    "another type": (lambda x: x.double(), r"gave float64 \(12, 1, 4, 4\) for images float32"),
    "a pixel above 1": (lambda x: with_pixel(x, 1.5), r"gave pixels from \S+ to 1.5"),
    "a pixel below 0": (lambda x: with_pixel(x, -0.25), r"gave pixels from -0.25 to "),
    "NaN": (lambda x: with_pixel(x, NAN), r"gave pixels from nan to nan"),
    "more than eps": (lambda x: (x + 0.11).clamp(max=1), r"changed a pixel by 0.11"),
}


@pytest.mark.parametrize("case", FAULTY)
def test_what_an_attack_must_not_give_is_refused(case):
    change, words = FAULTY[case]
    images = random_images(12, 1, 4, 4).float()
    with pytest.raises(
        InvalidInputError, match=rf"BIM, eps 0.1 {words}.*fault of the attack's code"
    ):
        check_adversarial(change(images), images, BIM(eps=0.1))
    check_adversarial((images + 0.1).clamp(max=1), images, BIM(eps=0.1))


def test_a_member_that_leaves_its_budget_is_caught_in_its_call(given):
    class Wide(BIM):
        name: str = "wide"

        def step(self, target, state):
            after, found = super().step(target, state)
            return type(after)(**{**vars(after), "adversarial": 1 - state.chunk.images}), found

    labels = predictions(given.model, given.images)
    for call in (Wide(eps=0.1), lambda *given: evaluate(*given, Wide(eps=0.1))):
        with pytest.raises(InvalidInputError, match=r"changed a pixel by 0\.\d+. It is a fault"):
            call(given.model, given.images, labels)
