"""Whatever model is attacked: what is said of it is so, fast as exact."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from attack_toys import generator
from torch import Tensor, nn
from zoo import OTHERS, TAKEN, case_of, pgd, right

from robustbench_pcl import evaluate
from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.evaluation.evaluate import Evaluation

SLOWER = "more slowly"
"""So ends what is said of a model that has no fast copy: no fault, and no error in these tests."""
pytestmark = pytest.mark.filterwarnings(f"ignore:Attacked .*{SLOWER}")


def attack_on(name: str, other: bool) -> Attack:
    """PGD, or one of the other attacks by sign in turn."""
    make = OTHERS[TAKEN.index(name) % len(OTHERS)] if other else pgd
    return make(case_of(name).eps)


def state_of(model: nn.Module) -> list[object]:
    """Everything that somebody who lends a model wants to have back."""
    state: list[object] = [
        (name, value.dtype, value.stride(), value.detach().numpy().tobytes())
        for name, value in model.state_dict().items()
    ]
    for name, value in model.named_parameters():
        grad = None if value.grad is None else value.grad.tolist()
        state.append((name, id(value), value.requires_grad, grad))
    for name, module in model.named_modules(remove_duplicate=False):
        hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_hooks)
        state.append((name, type(module), module.training, *map(list, hooks)))
        if not isinstance(module, torch.jit.ScriptModule):
            state += [id(module), sorted(vars(module)), plain_values(module)]
    return state


def plain_values(module: nn.Module) -> dict[str, object]:
    own = vars(module).items()
    return {key: value for key, value in own if isinstance(value, bool | int | float | str)}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of an attack, and of what it was given."""

    model: nn.Module
    evaluation: Evaluation
    made: Tensor
    kept: bool
    images_kept: bool
    said: list[str]


@cache
def outcome(name: str, other: bool, exact: bool) -> Outcome:
    """Evaluate a model of the zoo, and attack it, too; once for all tests."""
    case, attack = case_of(name), attack_on(name, other)
    model, (images, labels) = case.builder(), case.given()
    before, asked, clean = state_of(model), images.requires_grad, images.detach().clone()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evaluation = evaluate(model, images, labels, attack, exact=exact)
        made = attack(model, images, labels, generator=generator(), exact=exact)
    unchanged = torch.equal(images, clean) and torch.equal(labels, case.given()[1])
    untouched = images.requires_grad == asked and images.grad is None
    texts = [str(each.message) for each in caught]
    said = [text for text in texts if exact or SLOWER not in text]
    kept = state_of(model) == before
    return Outcome(model, evaluation, made, kept, unchanged and untouched, said)


def outcomes(name: str, other: bool) -> list[Outcome]:
    return [outcome(name, other, exact) for exact in (True, False)]


def taken(test: Callable[..., None]) -> Callable[..., None]:
    """For each member of the zoo that is attacked, with PGD and with another attack."""
    test = pytest.mark.parametrize("other", [False, True], ids=["pgd", "other"])(test)
    return pytest.mark.parametrize("name", TAKEN)(test)


def differing(first: Tensor, second: Tensor) -> int:
    return int((first != second).sum())


@pytest.mark.parametrize("name", TAKEN)
def test_of_every_case_some_images_are_fooled(name):
    """Else the other tests would show nothing: a plain PGD, written out, is enough for some."""
    case = case_of(name)
    model, (images, labels) = case.builder().eval(), case.given()
    clean = moved = images.detach()
    noise = torch.rand(clean.shape, generator=generator(), dtype=torch.float64).to(clean)
    moved = (clean + case.eps * (2 * noise - 1)).clamp(0, 1)
    for _ in range(4):
        leaf = moved.detach().clone().requires_grad_(True)
        losses = nn.functional.cross_entropy(model(leaf.clone()), labels, reduction="none")
        (slope,) = torch.autograd.grad(losses[losses.isfinite()].sum(), leaf)
        moved = moved + case.eps / 4 * slope.nan_to_num(0.0).sign()
        moved = moved.clamp(clean - case.eps, clean + case.eps).clamp(0, 1)
    before, after = right(model, clean, labels), right(model, moved, labels)
    assert 16 <= before.sum() < len(images)
    assert 0 < after.sum() <= before.sum() - 2


@taken
def test_images_lie_in_the_ball_and_are_images(name, other):
    case = case_of(name)
    clean = case.given()[0].detach()
    tolerance = 1e-3 if clean.dtype == torch.float16 else 1e-6
    for found in outcomes(name, other):
        for made in (found.made, found.evaluation.adversarial):
            assert (made.shape, made.dtype) == (clean.shape, clean.dtype)
            assert not made.requires_grad
            assert made.isfinite().all()
            assert ((made >= 0) & (made <= 1)).all()
            assert (made.double() - clean.double()).abs().max() <= case.eps + tolerance


@taken
def test_verdicts_are_the_model_s_own(name, other):
    images, labels = case_of(name).given()
    for found in outcomes(name, other):
        said = found.evaluation
        assert torch.equal(said.clean, right(found.model, images, labels))
        own = right(found.model, said.adversarial, labels)
        assert torch.equal(said.robust[said.clean], own[said.clean])
        assert not (said.robust & ~said.clean).any()
        n = said.table["n"].tolist()
        assert n == [len(images)] * 2


@taken
def test_fast_comes_to_what_exact_comes_to(name, other):
    exact, fast = outcomes(name, other)
    assert abs(int(exact.evaluation.robust.sum()) - int(fast.evaluation.robust.sum())) <= 1
    labels = case_of(name).labels
    counts = [int(right(found.model, found.made, labels).sum()) for found in (exact, fast)]
    assert abs(counts[0] - counts[1]) <= 1


@taken
def test_model_and_images_are_given_back_as_they_were(name, other):
    for found in outcomes(name, other):
        assert found.kept
        assert found.images_kept


@taken
def test_warnings_say_what_is_wrong_and_nothing_else(name, other):
    odd = case_of(name).odd
    for found in outcomes(name, other):
        if odd.warning is None:
            assert found.said == []
        else:
            assert odd.may_be_silent or found.said
            assert all(re.search(odd.warning, text, re.IGNORECASE) for text in found.said)


@pytest.mark.parametrize("name", TAKEN)
def test_batches_decide_nothing(name, batches_of):
    whole = outcome(name, False, exact=False).evaluation
    case = case_of(name)
    batches_of(9)
    with warnings.catch_warnings():
        if case.odd.warning:
            warnings.simplefilter("ignore")
        cut = evaluate(case.builder(), *case.given(), attack_on(name, False))
    assert torch.equal(cut.clean, whole.clean)
    assert torch.equal(cut.robust, whole.robust)
    near = (cut.adversarial - whole.adversarial).abs() < 1e-5
    assert near.float().mean() > 0.95  # where a gradient is nearly zero, rounding has its sign
