"""What cannot be attacked is refused with the reason, and what hides its slope is not protected."""

from collections.abc import Callable

import pytest
import torch
from attack_toys import generator
from torch import nn
from zoo import CLASSES, ODD, OTHERS, REFUSED, Case, case_of, pgd, right
from zoo_odd_models import around, from_roots

from robustbench_pcl import evaluate
from robustbench_pcl.attacks import CW
from robustbench_pcl.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:Attacked .*more slowly")
BOTH = pytest.mark.parametrize("exact", [True, False], ids=["exact", "fast"])


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
