"""What every attack promises: budgets, batches, passes, and a model left as it was."""

import copy

import pytest
import torch
import torch.nn.functional as F
from attack_models import case_of
from attack_toys import (
    BOUNDED,
    EVERY,
    PASSES,
    SIGN_ATTACKS,
    WEAK,
    Counted,
    Numb,
    Tally,
    attacked,
    careless,
    generator,
    in_slices,
    predictions,
    random_images,
    short,
    state_of,
)
from torch import nn

from robustbench_pcl.attacks import ATTACKS, BIM, FGSM
from robustbench_pcl.attacks.base import Goal, draw_seeds
from robustbench_pcl.attacks.fast_model import shortcuts_for
from robustbench_pcl.attacks.target import PROBE, TargetModel

LAST_BITS = 1e-15
"""C&W's pixels are not multiples of a step, so they show in which order a matrix product is summed,
which depends on how many rows it has: the last bit of a float64, and nothing above it."""
AMPLIFIED = {"lbfgs": 1e-9}
"""It divides by differences of gradients."""


# The images


@pytest.mark.parametrize("name", EVERY)
def test_images_do_not_depend_on_how_they_are_cut_into_batches(case, name):
    attack, count = short(name), 32 if name in SIGN_ATTACKS else 16
    images, labels = case.images[:count], case.labels[:count]
    whole, *parts = (in_slices(attack, case.model, images, labels, size) for size in (64, 7, 1))
    assert not torch.equal(whole, images)
    for part in parts:
        near = 0 if name in SIGN_ATTACKS else AMPLIFIED.get(name, LAST_BITS)
        assert torch.allclose(part, whole, rtol=0, atol=near)


@pytest.mark.parametrize("name", EVERY)
def test_verdicts_do_not_depend_on_the_batch_in_float32(case, name):
    model, count = copy.deepcopy(case.model).float(), 32 if name in SIGN_ATTACKS else 16
    images, labels = case.images[:count].float(), case.labels[:count]
    attack = short(name, **WEAK.get(name, {"eps": 0.06}))
    runs = (in_slices(attack, model, images, labels, size) for size in (64, 7, 1))
    whole, *parts = (predictions(model, run) == labels for run in runs)
    assert 0 < whole.sum() < count
    for part in parts:
        assert torch.equal(part, whole)


@pytest.mark.parametrize("name", EVERY)
def test_an_image_has_the_same_fate_in_any_company(case, name):
    """Its neighbours may be other images, with other labels, that take longer or shorter."""
    attack, chosen = short(name, steps=60), torch.arange(10, 20)
    seeded = {"generator": generator(), "exact": True}
    alone = attack(case.model, case.images[chosen], case.labels[chosen], **seeded)
    images, labels = case.images[:20].clone(), case.labels[:20].clone()
    images[:10], labels[:10] = case.images[chosen], case.labels[chosen]
    images[10:] = case.images[30:40].flip(3)
    seeded = {"generator": generator(), "exact": True}
    together = attack(case.model, images, labels, **seeded)
    near = AMPLIFIED.get(name, LAST_BITS)
    assert torch.allclose(together[:10], alone, rtol=0, atol=near)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", EVERY)
def test_shape_type_and_pixel_range_are_kept(case, name, exact, kind):
    model, images = copy.deepcopy(case.model).to(kind), case.images.to(kind).requires_grad_(True)
    before = images.detach().clone()
    adversarial = short(name)(model, images, case.labels, exact=exact)
    assert (adversarial.shape, adversarial.dtype) == (images.shape, kind)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert not adversarial.requires_grad
    assert torch.equal(images, before)


@pytest.mark.parametrize("eps", [0.0, 8 / 255, 0.3, 1.0])
@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_the_budget_is_kept_and_used(case, name, eps):
    adversarial = ATTACKS[name](eps=eps)(case.model, case.images, case.labels)
    change = (adversarial - case.images).abs()
    assert change.max() <= (eps and eps + 1e-15)
    assert change.max() >= eps - 1e-12 - (case.images.min() if eps == 1 else 0)


@pytest.mark.parametrize("name", EVERY)
def test_calls_without_a_generator_repeat_each_other_and_draw_nothing(case, name):
    state = torch.random.get_rng_state()
    runs = [short(name, steps=5)(case.model, case.images, case.labels) for _ in range(2)]
    assert torch.equal(*runs)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", EVERY)
def test_no_images_give_no_images(case, name):
    nothing = case.images[:0]
    assert short(name)(case.model, nothing, case.labels[:0]).shape == nothing.shape


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", EVERY)
def test_zero_gradients_of_some_images_make_no_nan(name, exact):
    images, model = random_images(8, 1, 4, 4), Numb()
    images[:4, 0, 0, 0], images[4:, 0, 0, 0] = 0.9, 0.1  # no slope for the first four
    labels = predictions(model, images)
    parameters = {"c": 1e5, "learning_rate": 0.05} if name == "cw" else {}
    adversarial = short(name, **parameters)(model, images, labels, exact=exact)
    assert adversarial.isfinite().all()
    assert (adversarial[4:] != images[4:]).flatten(1).any(dim=1).all()
    if not getattr(ATTACKS[name], "random_start", name in BOUNDED):
        assert torch.equal(adversarial[:4], images[:4])


@pytest.mark.parametrize("name", EVERY)
def test_a_call_that_need_not_be_exact_takes_the_device_s_shortcuts_and_every_step(name):
    case, attack = case_of("normed_net"), short(name, steps=8)
    shortcuts = shortcuts_for(case.images.device)
    expected = attacked(attack, case.model, case.images, case.labels, shortcuts)
    found = attack(case.model, case.images, case.labels)
    assert torch.equal(found, expected.adversarial)
    assert expected.shortcuts.folded
    if name in SIGN_ATTACKS:
        assert expected.backward_passes == attack.steps * len(found) + 2 * PROBE


# The model


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", EVERY)
def test_the_model_is_left_as_it_was(case, name, exact):
    model = careless(case.model)
    before = state_of(model)
    short(name, steps=5)(model, case.images, case.labels, exact=exact)
    assert state_of(model) == before


class Failing(nn.Module):
    """Raises at a call."""

    def __init__(self, model: nn.Module, call: int) -> None:
        super().__init__()
        self.model, self.call, self.calls = model, call, 0

    def forward(self, images):
        self.calls += 1
        if self.calls == self.call:
            raise MemoryError("it is broken")
        return self.model(images)


CALLS = {"when it is asked twice": 2, "when its gradient is tried": 7, "in the first step": 8}


@pytest.mark.parametrize("when", CALLS)
@pytest.mark.parametrize("name", EVERY)
def test_the_model_is_left_as_it_was_after_an_exception(case, name, when):
    model = Failing(careless(case.model), CALLS[when])
    before = state_of(model)
    with pytest.raises(MemoryError, match="it is broken"):
        short(name).changed(steps=5)(model, case.images, case.labels, exact=True)
    assert model.calls == model.call
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
    with TargetModel(model) as target:
        seeds = draw_seeds(count, generator())
        attack.perturb(target, case.images, Goal(case.labels), seeds)
        assert target.forward_passes == Tally.forward_images
        assert target.backward_passes == Tally.backward_images
        most = attack.steps * count
        if name in SIGN_ATTACKS:
            assert (target.forward_passes, target.backward_passes) == (most, most)
        else:
            most *= PASSES.get(name, 1)
            assert target.backward_passes <= most
            assert target.backward_passes <= target.forward_passes <= most + count
        target.logits(case.images)
    assert target.forward_passes == Tally.forward_images


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", EVERY)
def test_an_accelerator_gives_the_same_images(case, name):
    images, labels = case.images.cuda(), case.labels.cuda()
    model, exact = copy.deepcopy(case.model).cuda(), {"exact": True}
    found = short(name)(model, images, labels, generator=generator(), **exact)
    assert found.device.type == "cuda"
    expected = short(name)(case.model, case.images, case.labels, generator=generator(), **exact)
    assert torch.allclose(found.cpu(), expected, rtol=0, atol=1e-9)
