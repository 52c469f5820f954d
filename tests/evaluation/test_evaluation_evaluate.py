"""The whole evaluation in one call: exact where the answer is known."""

import re
from typing import ClassVar, Literal

import pytest
import torch
from attack_toys import linear_model, predictions, random_images, some_wrong
from torch import nn

from robustbench_pcl import BIM, CW, FGSM, MIM, PGD, evaluate
from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.attacks.checks import ALONE
from robustbench_pcl.attacks.target import PROBE
from robustbench_pcl.errors import InvalidInputError, UserError
from robustbench_pcl.store.rules import wilson

EPS = (0.01, 0.06, 0.1)
N = 120
CHECKED = 3 * PROBE + ALONE
"""Images that are passed forward to see whether a model can be judged: twice, for a gradient, and
alone."""
# Two logits that are nearly equal leave no range by which to measure how far a copy's are off.
pytestmark = pytest.mark.filterwarnings("ignore:Attacked in float32, more slowly")


class Linear:
    """A linear model behind a convolution and batch normalisation; 120 images off the bounds.

    Its margin is ``w x + b``, so a budget of eps takes away ``eps |w|_1`` of it and no more.
    """

    def __init__(self) -> None:
        norm = nn.BatchNorm2d(1)
        with torch.no_grad():
            norm.running_mean.fill_(0.3)
            norm.running_var.fill_(0.5)
            norm.weight.fill_(1.5)
            norm.bias.fill_(0.2)
        conv = nn.Conv2d(1, 1, 1)
        with torch.no_grad():
            conv.weight.fill_(1.25)
            conv.bias.fill_(-0.1)
        body = nn.Sequential(conv, norm).double().eval()
        last = linear_model(2, 9)
        weight = last[1].weight.detach()
        with torch.no_grad():  # undecided at grey, so that both classes occur
            last[1].bias.copy_(-(body(torch.full((1, 1, 3, 3), 0.5).double()).flatten() @ weight.T))
        self.model = nn.Sequential(body, *last)
        self.images = random_images(N, 1, 3, 3, low=0.3, high=0.7)
        self.labels = some_wrong(predictions(self.model, self.images), 2)
        with torch.no_grad():
            logits = self.model(self.images)
            # What a pixel weighs.
            gain = body(torch.ones(1, 1, 1, 1).double()) - body(torch.zeros(1, 1, 1, 1).double())
        signed = logits[:, 1] - logits[:, 0]
        margin = torch.where(self.labels == 1, signed, -signed)
        self.withstands = margin / ((weight[1] - weight[0]).abs().sum() * gain.abs().item())

    def evaluate(self, *attacks, **options):
        return evaluate(self.model, self.images, self.labels, *attacks, **options)


@pytest.fixture(scope="module")
def linear() -> Linear:
    return Linear()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("attack", [FGSM, BIM, MIM, PGD], ids=lambda attack: attack.__name__)
def test_robust_accuracy_is_exact_where_it_is_known(linear, attack, eps, exact):
    """Also where gradients are the fast model's: it is the verdict that has to be exact."""
    found = linear.evaluate(attack(eps=eps, loss="margin"), eps, exact=exact)
    robust = linear.withstands > eps
    assert 0 < robust.sum() < N
    assert torch.equal(found.clean, linear.withstands > 0)
    assert torch.equal(found.robust, robust)
    assert torch.equal(predictions(linear.model, found.adversarial) == linear.labels, robust)
    change = (found.adversarial - linear.images).abs().flatten(1).amax(dim=1)
    assert change.max() <= eps + 1e-12
    assert (change[~found.clean] == 0).all() != exact  # who is wrong already is left alone


def test_the_table_says_what_was_counted(linear):
    found = linear.evaluate([PGD(eps=0.06, loss="margin"), FGSM(eps=0.03)], 0.06, exact=True)
    assert list(found.table.attack) == [
        "Clean",
        "PGD on margin, eps 0.06",
        "FGSM, eps 0.03",
        "worst case",
    ]
    clean, pgd, _, worst = found.table.itertuples()
    assert clean.accuracy == pytest.approx(100 * found.clean.double().mean().item())
    assert worst.accuracy == pytest.approx(100 * found.robust.double().mean().item())
    assert (worst.low, worst.high) == tuple(100 * end for end in wilson(int(found.robust.sum()), N))
    assert set(found.table.n) == {N}
    assert (pgd.forward_passes, pgd.backward_passes) == (11 * N, 10 * N)
    assert pgd.seconds > 0
    assert found.backward_passes == PROBE + 11 * N
    assert found.forward_passes == CHECKED + N + 11 * N + 2 * N


def test_the_worst_case_counts_an_image_only_if_it_withstands_every_attack(linear):
    weak, strong = PGD(eps=0.03, loss="margin"), PGD(eps=0.1, loss="margin")
    for attacks in ([weak, strong], [strong, weak]):
        found = linear.evaluate(attacks)
        assert torch.equal(found.robust, linear.withstands > 0.1)
        fooled = predictions(linear.model, found.adversarial) != linear.labels
        assert torch.equal(fooled, ~found.robust)


def test_names_get_the_threat_models_budget(linear):
    found = linear.evaluate(["fgsm", "pgd"], 0.05)
    assert list(found.table.attack[1:3]) == ["FGSM, eps 0.05", "PGD, eps 0.05"]


def test_an_attack_with_more_than_the_threat_models_budget_is_refused(linear):
    with pytest.raises(UserError, match=r"more than the threat model's eps 0\.1.*PGD\(eps=0\.1\)"):
        linear.evaluate(PGD(eps=0.2), 0.1)
    with pytest.raises(UserError, match="has no budget"):
        linear.evaluate("cw", 0.1)
    with pytest.raises(UserError, match="the attacks' norms are"):
        linear.evaluate([PGD(eps=0.05), PGD(eps=0.05, norm="l2")], 0.1)
    linear.evaluate(CW(c=10, steps=2))


def test_it_prints_well_in_a_terminal_and_in_a_notebook(linear):
    found = linear.evaluate(PGD(eps=0.06), exact=True)
    lines = str(found).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split()[:3] == ["PGD,", "eps", "0.06"]
    shown = found._repr_html_()
    assert re.findall("<th>(.*)</th>", shown) == ["attack", "accuracy %", "95 % low", "high", "n"]
    assert "<td>PGD, eps 0.06</td>" in shown
    assert "tensor" not in repr(found)


def test_the_seed_is_of_the_random_start(linear):
    short = PGD(eps=0.1, steps=1, relative_step_size=0.25)
    runs = [linear.evaluate(short, exact=True, seed=seed).adversarial for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_images_are_left_as_they_were(linear):
    before = linear.images.clone()
    linear.evaluate(PGD(eps=0.1))
    assert torch.equal(linear.images, before)


class Whiten(Attack):
    """A member of the family may do no more than make images."""

    norm: str = "linf"
    needs_gradient: ClassVar[bool] = False
    name: Literal["whiten"] = "whiten"

    def perturb(self, target, images, goal, seeds):
        target.logits(images)
        return torch.ones_like(images)


@pytest.mark.parametrize("exact", [True, False])
def test_an_attack_without_steps_of_its_own_is_evaluated_too(linear, exact):
    found = linear.evaluate(Whiten(), exact=exact)
    white = predictions(linear.model, torch.ones_like(linear.images)) == linear.labels
    assert torch.equal(found.robust, white & found.clean)
    assert found.backward_passes == 0


def test_an_attack_without_gradients_judges_a_model_without_any(linear):
    """Rounded pixels have none; an attack that needs one says so."""
    rounded = nn.Sequential(Rounded(), linear.model)
    images = linear.images
    found = evaluate(rounded, images, predictions(rounded, images), Whiten())
    assert found.clean.all()
    assert 0 < found.robust.sum() < N
    with pytest.raises(InvalidInputError, match="logits is 0 in every pixel"):
        evaluate(rounded, images, linear.labels)


class Rounded(nn.Module):
    def forward(self, images):
        return (images * 4).round() / 4


class Root(nn.Module):
    """The roots of bright pixels on top; of dark ones, the gradient of what is not taken is NaN."""

    def forward(self, images):
        bright = images - 0.2
        return images + torch.where(bright > 0, bright.sqrt(), 0)


def test_images_of_which_nothing_is_known_are_named(linear):
    """Those that withstand, and whose gradient was not finite in any pixel."""
    dark = torch.arange(N) % 5 == 1
    images = torch.where(dark[:, None, None, None], linear.images * 0.25, linear.images)
    model = nn.Sequential(Root(), linear.model)
    labels = predictions(model, images)
    with pytest.warns(UserWarning, match="nothing is known of their robustness"):
        found = evaluate(model, images, labels, FGSM(eps=1e-6))
    assert torch.equal(found.blind, dark)
    assert found.robust.all()
    labels[dark] = 1 - labels[dark]
    assert not evaluate(model, images, labels, FGSM(eps=1e-6)).blind.any()  # they are wrong already


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images, labels: (images * 255, labels), r"pixels from .* must be in \[0, 1\]"),
        (lambda images, labels: (images.long(), labels), "must be float"),
        (lambda images, labels: (images[0], labels), "images must be float"),
        (lambda images, labels: (images.sqrt().log().sqrt(), labels), "Image 0 has pixels .* NaN"),
        (lambda images, labels: (images, labels[1:]), "labels must be int64"),
        (lambda images, labels: (images, labels.double()), "labels must be int64"),
        (lambda images, labels: (images, labels - 1), "classes are counted from 0"),
        (lambda images, labels: (images, labels + 2), "labels go up to 2"),
        (lambda images, labels: (images.float(), labels), r"weights are float64: images.to\(torch"),
        (lambda images, labels: (images[:0], labels[:0]), "no images"),
    ],
)
def test_what_no_attack_can_be_made_on_is_refused(change, message, exact):
    images = random_images(4, 1, 3, 3, high=0.9)
    labels = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(InvalidInputError, match=message) as refused:
        evaluate(linear_model(2, 9), *change(images, labels), exact=exact)
    assert isinstance(refused.value, ValueError)
    assert isinstance(refused.value, UserError)
