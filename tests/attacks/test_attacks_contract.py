"""What every attack promises: budgets, batches, passes, and a model left as it was."""

import copy
import dataclasses
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from attack_toys import (
    L2_ATTACKS,
    SIGN_ATTACKS,
    Constant,
    Counted,
    Tally,
    careless,
    generator,
    in_slices,
    predictions,
    random_images,
    short,
    state_of,
)
from torch import nn

import robustbench_pcl.attacks as family
from robustbench_pcl.attacks import ATTACKS, BIM, CW, FGSM, PGD
from robustbench_pcl.attacks.base import draw_seeds, uniform_noise
from robustbench_pcl.engine.victim import Victim
from robustbench_pcl.errors import UserError
from robustbench_pcl.registry import build
from robustbench_pcl.specs.base import Part

EVERY = list(ATTACKS)
LAST_BITS = 1e-15
"""C&W's pixels are not multiples of a step, so they show in which order a matrix product is summed,
which depends on how many rows it has: the last bit of a float64, and nothing above it."""


# The pictures


@pytest.mark.parametrize("name", EVERY)
def test_images_do_not_depend_on_how_they_are_cut_into_batches(case, name):
    attack = short(name)
    whole, *parts = (
        in_slices(attack, case.model, case.images, case.labels, size) for size in (64, 7, 1)
    )
    assert not torch.equal(whole, case.images)
    for part in parts:
        if name in SIGN_ATTACKS:
            assert torch.equal(part, whole)
        else:
            assert torch.allclose(part, whole, rtol=0, atol=LAST_BITS)


@pytest.mark.parametrize("name", EVERY)
def test_verdicts_do_not_depend_on_the_batch_in_float32(case, name):
    model, images = copy.deepcopy(case.model).float(), case.images.float()
    attack = short(name, **({"eps": 0.06} if name in SIGN_ATTACKS else {"c": 1.0}))
    runs = (in_slices(attack, model, images, case.labels, size) for size in (64, 7, 1))
    whole, *parts = (predictions(model, run) == case.labels for run in runs)
    assert 0 < whole.sum() < 64
    for part in parts:
        assert torch.equal(part, whole)


@pytest.mark.parametrize("name", EVERY)
def test_an_image_has_the_same_fate_in_any_company(case, name):
    """Its neighbours may be other images, with other labels, that take longer or shorter."""
    attack, chosen = short(name, steps=60), torch.arange(10, 20)
    alone = attack(case.model, case.images[chosen], case.labels[chosen], generator=generator())
    images, labels = case.images[:20].clone(), case.labels[:20].clone()
    images[:10], labels[:10] = case.images[chosen], case.labels[chosen]
    images[10:] = case.images[30:40].flip(3)
    together = attack(case.model, images, labels, generator=generator())
    assert torch.allclose(together[:10], alone, rtol=0, atol=LAST_BITS)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_shape_type_and_pixel_range_are_kept(case, name, kind):
    model, images = copy.deepcopy(case.model).to(kind), case.images.to(kind)
    before = images.clone()
    adversarial = short(name)(model, images, case.labels)
    assert (adversarial.shape, adversarial.dtype) == (images.shape, kind)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert torch.equal(images, before)


@pytest.mark.parametrize("eps", [0.02, 8 / 255, 0.3, 1.0])
@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_the_budget_is_kept_and_used(case, name, eps):
    adversarial = ATTACKS[name](eps=eps)(case.model, case.images, case.labels)
    change = (adversarial - case.images).abs()
    assert change.max() <= eps + 1e-15
    assert change.max() >= eps - 1e-12 - (case.images.min() if eps == 1 else 0)


@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_no_budget_gives_the_very_same_images(case, name):
    for kind in (torch.float64, torch.float32):
        model, images = copy.deepcopy(case.model).to(kind), case.images.to(kind)
        adversarial = ATTACKS[name](eps=0)(model, images, case.labels)
        assert torch.equal(adversarial, images)
        clean = predictions(model, images) == case.labels
        assert torch.equal(predictions(model, adversarial) == case.labels, clean)


@pytest.mark.parametrize("name", EVERY)
def test_no_images_are_no_trouble(case, name):
    nothing = case.images[:0]
    assert short(name)(case.model, nothing, case.labels[:0]).shape == nothing.shape


@pytest.mark.parametrize("name", EVERY)
def test_the_result_is_detached_from_the_images(case, name):
    images = case.images[:3].clone().requires_grad_(True)
    assert not short(name, steps=3)(case.model, images, case.labels[:3]).requires_grad


def test_a_start_belongs_to_its_image():
    images = random_images(6, 2, 3, 3)
    seeds = draw_seeds(6, generator(3))
    noise = uniform_noise(images, seeds)
    order = torch.tensor([4, 0, 5])
    assert torch.equal(uniform_noise(images[order], seeds[order]), noise[order])
    assert torch.equal(torch.cat([draw_seeds(2, source) for source in [generator(3)]]), seeds[:2])
    assert noise.min() >= -1
    assert noise.max() <= 1


@pytest.mark.parametrize("name", EVERY)
def test_without_a_generator_calls_repeat_each_other_and_draw_nothing(case, name):
    state = torch.random.get_rng_state()
    runs = [short(name, steps=5)(case.model, case.images, case.labels) for _ in range(2)]
    assert torch.equal(*runs)
    assert torch.equal(torch.random.get_rng_state(), state)


# The model


@pytest.mark.parametrize("name", EVERY)
def test_the_model_is_left_as_it_was(case, name):
    model = careless(case.model)
    before = state_of(model)
    short(name)(model, case.images, case.labels)
    assert state_of(model) == before


class Failing(nn.Module):
    """Raises at its third call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.calls = model, 0

    def forward(self, images):
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("out of memory")
        return self.model(images)


@pytest.mark.parametrize("name", EVERY)
def test_the_model_is_left_as_it_was_after_an_exception(case, name):
    model = Failing(careless(case.model))
    before = state_of(model)
    attack = dataclasses.replace(short(name), steps=5)
    with pytest.raises(RuntimeError, match="out of memory"):
        attack(model, case.images, case.labels)
    assert state_of(model) == before


def test_gradients_that_were_there_stay(case):
    model = copy.deepcopy(case.model).train()
    F.cross_entropy(model(case.images), case.labels).backward()
    before = [value.grad.clone() for value in model.parameters()]
    BIM()(model, case.images, case.labels)
    for value, gradient in zip(model.parameters(), before, strict=True):
        assert torch.equal(value.grad, gradient)


def test_an_attack_sees_the_model_in_eval_mode(case):
    """In train mode dropout and batch statistics would change the result."""
    model = copy.deepcopy(case.model)
    both = [FGSM()(model.train(mode), case.images, case.labels) for mode in (True, False)]
    assert torch.equal(*both)


@pytest.mark.parametrize("name", EVERY)
def test_weights_are_frozen_meanwhile(case, name):
    """No time is spent on gradients that nobody asks for."""
    model, learning = copy.deepcopy(case.model), set()
    model.register_forward_pre_hook(
        lambda module, given: learning.update(value.requires_grad for value in module.parameters())
    )
    short(name, steps=2)(model, case.images, case.labels)
    assert learning == {False}


@pytest.mark.parametrize("name", EVERY)
def test_attacks_work_where_gradients_are_off(case, name):
    expected = short(name)(case.model, case.images, case.labels)
    with torch.no_grad():
        assert torch.equal(short(name)(case.model, case.images, case.labels), expected)


# The passes


@pytest.mark.parametrize("name", EVERY)
def test_passes_are_counted_as_they_are_made(case, name):
    attack, count = short(name), len(case.images)
    model = Counted(case.model)
    with Victim(model) as victim:
        goal = family.base.Goal(case.labels)
        attack.perturb(victim, case.images, goal, draw_seeds(count, generator()))
        assert victim.forward_passes == Tally.forward_images
        assert victim.backward_passes == Tally.backward_images
        most = attack.steps * count
        if name in SIGN_ATTACKS:
            assert (victim.forward_passes, victim.backward_passes) == (most, most)
        else:
            assert victim.backward_passes <= victim.forward_passes <= most
        victim.logits(case.images)
    assert victim.forward_passes == Tally.forward_images


@pytest.mark.parametrize(("name", "passes"), [("fgsm", 1), ("bim", 10), ("mim", 10), ("pgd", 10)])
def test_passes_an_image_at_table_2_parameters(case, name, passes):
    model = Counted(case.model)
    ATTACKS[name]()(model, case.images[:5], case.labels[:5])
    assert (Tally.forward_images, Tally.backward_images) == (5 * passes, 5 * passes)


# No gradient, no way


@pytest.mark.parametrize("name", EVERY)
def test_zero_gradients_make_no_nan(name):
    images, labels = random_images(6, 1, 4, 4), torch.tensor([0, 0, 0, 0, 1, 2])
    adversarial = short(name)(Constant(), images, labels)
    assert adversarial.isfinite().all()
    if name in L2_ATTACKS:
        assert torch.equal(adversarial[:4], images[:4])
    elif not ATTACKS[name].random_start:
        assert torch.equal(adversarial, images)


# The losses


# What is refused


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[0], y), "images must be float"),
        (lambda x, y: ((x * 255).byte(), y), "images must be float"),
        (lambda x, y: (x * 255, y), "normalisation inside the model"),
        (lambda x, y: (x - 0.5, y), "normalisation inside the model"),
        (lambda x, y: (x * torch.nan, y), "pixels in"),
        (lambda x, y: (x, y[:-1]), "labels must be int64"),
        (lambda x, y: (x, y.double()), "labels must be int64"),
        (lambda x, y: (x, y.int()), "labels must be int64"),
        (lambda x, y: (x, F.one_hot(y, 5)), "labels must be int64"),
    ],
)
def test_images_and_labels_are_checked(case, name, change, message):
    images, labels = change(case.images, case.labels)
    with pytest.raises(ValueError, match=message):
        ATTACKS[name]()(case.model, images, labels)


def test_targets_are_checked(case):
    with pytest.raises(ValueError, match="targets must be int64"):
        FGSM()(case.model, case.images, case.labels, targets=case.labels[:3])


REFUSED = [
    *((name, {"steps": 0}) for name in EVERY),
    *((name, {"steps": "many"}) for name in EVERY),
    *((name, {"eps": 8}) for name in SIGN_ATTACKS),
    *((name, {"eps": -0.1}) for name in SIGN_ATTACKS),
    *((name, {"eps": float("nan")}) for name in SIGN_ATTACKS),
    *((name, {"relative_step_size": 0}) for name in SIGN_ATTACKS),
    *((name, {"relative_step_size": -0.1}) for name in SIGN_ATTACKS),
    ("cw", {"c": 0}),
    ("cw", {"c": -1.0}),
    ("cw", {"c": float("nan")}),
    ("cw", {"learning_rate": 0.0}),
    ("cw", {"search_steps": -1}),
]


@pytest.mark.parametrize(("name", "parameters"), REFUSED, ids=str)
def test_parameters_that_would_attack_nothing_are_refused(name, parameters):
    with pytest.raises((ValueError, TypeError, UserError)):
        ATTACKS[name](**parameters)
    with pytest.raises(UserError):
        build(ATTACKS, Part(name=name, parameters=parameters))


@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_a_budget_may_be_a_fraction(name):
    assert ATTACKS[name](eps="8/255").eps == 8 / 255


# The family


@pytest.mark.parametrize("name", EVERY)
def test_members_document_their_fields_and_cannot_be_changed(name):
    attack = ATTACKS[name]()
    for entry in dataclasses.fields(attack):
        assert entry.metadata["doc"]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(attack, entry.name, 1)
    assert attack.norm in ("linf", "l2")
    assert ATTACKS[name].__doc__


def test_members_are_importable_by_name():
    from robustbench_pcl.attacks import BIM, FGSM, MIM

    assert [ATTACKS[name] for name in ("fgsm", "bim", "mim", "pgd", "cw")] == [
        FGSM,
        BIM,
        MIM,
        PGD,
        CW,
    ]
    assert set(family.__all__) == {"ATTACKS"} | {name.upper() for name in ATTACKS}
    with pytest.raises(AttributeError, match="no attribute 'DEEPFOOL'"):
        family.DEEPFOOL  # noqa: B018 - the access is the test
    with pytest.raises(ImportError):
        from robustbench_pcl.attacks import pgd_attack  # noqa: F401


def test_looking_attacks_up_does_not_import_torch():
    code = (
        "import sys, robustbench_pcl.attacks as family; "
        "assert 'torch' not in sys.modules; print(*family.ATTACKS)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert finished.stdout.split() == EVERY


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", EVERY)
def test_an_accelerator_gives_the_same_images(case, name):
    images, labels = case.images.cuda(), case.labels.cuda()
    found = short(name)(copy.deepcopy(case.model).cuda(), images, labels, generator=generator())
    assert found.device.type == "cuda"
    expected = short(name)(case.model, case.images, case.labels, generator=generator())
    assert torch.allclose(found.cpu(), expected, rtol=0, atol=1e-9)
