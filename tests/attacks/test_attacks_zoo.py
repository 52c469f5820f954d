"""Whatever model is attacked: what is said of it is so, fast as exact, or an error says why not."""

import copy
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from attack_toys import generator, some_wrong
from torch import Tensor, nn
from zoo import CLASSES, ODD, REFUSED, TAKEN, Case, case_of
from zoo_architectures import FunctionalNorm, conv3, plain, settled
from zoo_odd import around, from_roots, rotated, simple, thresholded

from robustbench_pcl import evaluate
from robustbench_pcl.attacks import BIM, CW, FGSM, MIM, PGD
from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.evaluate import Evaluation

SLOWER = "more slowly"
"""So ends what is said of a model that has no fast copy: no fault, and no error in these tests."""
pytestmark = pytest.mark.filterwarnings(f"ignore:Attacked .*{SLOWER}")
BOTH = pytest.mark.parametrize("exact", [True, False], ids=["exact", "fast"])
OTHERS: tuple[Callable[[float], Attack], ...] = (
    lambda eps: FGSM(eps=eps),
    lambda eps: BIM(eps=eps, steps=4, relative_step_size=0.3),
    lambda eps: MIM(eps=eps, steps=4, relative_step_size=0.3),
)


def pgd(eps: float) -> Attack:
    return PGD(eps=eps, steps=4, relative_step_size=0.25)


def attack_on(name: str, other: bool) -> Attack:
    """PGD, or one of the other attacks by sign in turn."""
    make = OTHERS[TAKEN.index(name) % len(OTHERS)] if other else pgd
    return make(case_of(name).eps)


def right(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Boolean (N,), by the model itself: logits that are not finite are of no class."""
    with torch.no_grad():
        logits = model.eval()(images.detach().clone())
    return logits.isfinite().all(dim=1) & (logits.argmax(dim=1) == labels)


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
    batches_of(5)
    with warnings.catch_warnings():
        if case.odd.warning:
            warnings.simplefilter("ignore")
        cut = evaluate(case.builder(), *case.given(), attack_on(name, False))
    assert torch.equal(cut.clean, whole.clean)
    assert torch.equal(cut.robust, whole.robust)
    near = (cut.adversarial - whole.adversarial).abs() < 1e-5
    assert near.float().mean() > 0.95  # where a gradient is nearly zero, rounding has its sign


# Errors


def refuses(name: str, call: Callable[[Case, nn.Module], object]) -> None:
    odd, case = ODD[name], case_of(name)
    with pytest.raises(UserError, match=f"(?is){odd.expectation}") as caught:
        call(case, case.builder())
    assert caught.value.cause
    assert caught.value.cure
    assert isinstance(caught.value, ValueError) or not odd.about_given


@BOTH
@pytest.mark.parametrize("name", REFUSED)
def test_an_evaluation_that_cannot_be_says_why(name, exact):
    refuses(
        name,
        lambda case, model: evaluate(model, *case.given(), pgd(case.eps), exact=exact),
    )


@BOTH
@pytest.mark.parametrize("name", REFUSED)
def test_an_attack_that_cannot_be_says_why(name, exact):
    refuses(
        name,
        lambda case, model: pgd(case.eps)(model, *case.given(), generator=generator(), exact=exact),
    )


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_is_refused_is_given_back_in_the_mode_it_came_in(name):
    case = case_of(name)
    model = case.builder()
    before = [module.training for module in model.modules()]
    with pytest.raises(UserError):
        evaluate(model, *case.given(), pgd(case.eps))
    assert [module.training for module in model.modules()] == before
    assert all(value.requires_grad for value in model.parameters())


# Slopes that are infinite


@BOTH
@pytest.mark.parametrize("make", [pgd, OTHERS[1], OTHERS[2]], ids=["pgd", "bim", "mim"])
def test_an_infinite_slope_protects_nobody(make, exact):
    """As many are fooled as of the model whose slope is only steep at black pixels."""
    case = case_of("roots of pixels")
    images, labels = case.given()
    assert (images == 0).flatten(1).any(dim=1).all()
    steep = around(lambda self, images: self.model((images + 1e-8).sqrt()))
    expected = evaluate(steep, images, labels, pgd(case.eps), exact=True).robust.sum()
    attack = make(case.eps)
    found = evaluate(around(from_roots), images, labels, attack, exact=exact)
    assert found.adversarial.isfinite().all()
    assert found.robust.sum() <= expected + 2
    made = attack(around(from_roots), images, labels, generator=generator(), exact=exact)
    assert made.isfinite().all()


@BOTH
def test_an_infinite_slope_protects_nobody_from_carlini_and_wagner(exact):
    case = case_of("roots of pixels")
    images, labels = case.given()
    attack = CW(c=10.0, steps=50)
    steep = around(lambda self, images: self.model((images + 1e-8).sqrt()))
    assert evaluate(steep, images, labels, attack, exact=True).robust.sum() <= 2
    found = evaluate(around(from_roots), images, labels, attack, exact=exact)
    assert found.adversarial.isfinite().all()
    assert found.robust.sum() <= 2


# Models that change between two evaluations


def threshold(model: nn.Module) -> None:
    model.threshold = 1.2


def other_bias(model: nn.Module) -> None:
    model[2][2].bias = nn.Parameter(model[2][2].bias.detach().roll(1) + 1)


def other_weights(model: nn.Module) -> None:
    weights = copy.deepcopy(model.state_dict())
    weights["1.0.weight"] = weights["1.0.weight"].roll(1, dims=0)
    model.load_state_dict(weights, assign=True)


def other_head(model: nn.Module) -> None:
    out = nn.Linear(48, CLASSES)
    with torch.no_grad():
        out.weight.copy_(model[2][2].weight.flip(1))
        out.bias.copy_(model[2][2].bias)
    model[2][2] = out


def other_statistics(model: nn.Module) -> None:
    with torch.no_grad():
        model[1][1].running_mean.copy_(model[1][1].running_mean.roll(1) + 0.2)
        model[1][1].running_var.mul_(1.7)


def other_buffers(model: nn.Module) -> None:
    model.centre = model.centre.roll(1)


def other_epsilon(model: nn.Module) -> None:
    model[1][1].eps = 0.3


def other_stride(model: nn.Module) -> None:
    model[1][0].dilation = model[1][0].padding = (2, 2)


def other_norm(model: nn.Module) -> None:
    model[1][1] = nn.GroupNorm(3, 12)


def other_layer(model: nn.Module) -> None:
    model[1].insert(2, settled(lambda: plain(conv3(12, 12)))[1])


CHANGES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], object]]] = {
    "a threshold": (lambda: around(thresholded), threshold),
    "a bias that is another parameter": (simple, other_bias),
    "weights that are assigned": (simple, other_weights),
    "another head": (simple, other_head),
    "statistics in place": (simple, other_statistics),
    "a buffer that is another": (lambda: settled(FunctionalNorm), other_buffers),
    "a hook on the root": (simple, lambda model: model.register_forward_hook(rotated)),
    "a hook on a batch norm": (simple, lambda model: model[1][1].register_forward_hook(rotated)),
    "a hook on a convolution": (simple, lambda model: model[1][0].register_forward_hook(rotated)),
    "a batch norm's epsilon": (simple, other_epsilon),
    "a convolution's dilation": (simple, other_stride),
    "another kind of norm": (simple, other_norm),
    "a layer between": (simple, other_layer),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_is_judged_as_it_is_now(change):
    build, make = CHANGES[change]
    images, attack = case_of("graph module").images, pgd(0.01)
    model, twin = build().eval(), build().eval()
    first = evaluate(model, images, predicted(model, images), attack)
    make(model)
    make(twin)
    labels = some_wrong(predicted(twin, images), CLASSES)
    fast, exact = (evaluate(model, images, labels, attack, exact=way) for way in (False, True))
    assert torch.equal(fast.clean, right(twin, images, labels))
    assert torch.equal(fast.robust, right(twin, fast.adversarial, labels) & fast.clean)
    assert abs(int(fast.robust.sum()) - int(exact.robust.sum())) <= 1
    assert not torch.equal(first.adversarial, fast.adversarial)


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_left_of_what_was_known_of_a_model_before(change):
    build, make = CHANGES[change]
    images, attack = case_of("graph module").images, pgd(0.01)
    model, twin = build().eval(), build().eval()
    attack(model, images, predicted(model, images), exact=False)
    make(model)
    make(twin)
    labels = predicted(twin, images)
    made, anew = (attack(each, images, labels, exact=False) for each in (model, twin))
    assert torch.equal(made, anew)


def predicted(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images.clone()).argmax(dim=1)


# Where the caller stands


@BOTH
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=["no", "inference"])
def test_who_has_switched_gradients_off_gets_the_same(context, exact):
    case = case_of("mlp")
    expected = evaluate(case.builder(), *case.given(), pgd(case.eps), exact=exact)
    model, given = case.builder(), case.given()
    with context():
        found = evaluate(model, *given, pgd(case.eps), exact=exact)
    assert torch.equal(found.robust, expected.robust)


@BOTH
def test_a_lazy_module_that_has_seen_nothing_is_named_or_works(exact):
    layers = (nn.LazyConv2d(6, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten())
    model = nn.Sequential(*layers, nn.LazyLinear(CLASSES)).eval()
    images = case_of("mlp").images
    labels = torch.arange(len(images)) % CLASSES
    said = ""
    try:
        clean = evaluate(model, images, labels, pgd(0.01), exact=exact).clean
    except UserError as error:
        said = f"{error}".lower()
    assert "lazy" in said or torch.equal(clean, right(model, images, labels))
