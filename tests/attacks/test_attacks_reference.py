"""The sign-gradient attacks against Eq. 16 to 19, 22 and 23, written out one image at a time."""

import math
from functools import cache

import pytest
import torch
from attack_models import MODELS, case_of, gradient, iterates
from attack_toys import SIGN_ATTACKS, attacked, generator, short, started
from scipy.stats import kstest
from torch import Tensor

from robustbench_pcl.attacks import ATTACKS, BIM, CW, MIM, PGD
from robustbench_pcl.attacks.base import Goal, draw_seeds
from robustbench_pcl.attacks.fast_model import EXACT, Shortcuts
from robustbench_pcl.attacks.target import TargetModel

STEPS = 10
WAYS = {
    "exact": EXACT,
    "folded": Shortcuts(folded=True),
    "early stop": Shortcuts(early_stop=True),
    "folded, early stop": Shortcuts(folded=True, early_stop=True),
}


def noise_of(images: Tensor, seed: int = 0) -> Tensor:
    """Uniform in [-1, 1], each image's from a seed of its own."""
    source = torch.Generator()
    drawn = [
        torch.rand(images.shape[1:], generator=source.manual_seed(own), dtype=images.dtype)
        for own in draw_seeds(len(images), generator(seed)).tolist()
    ]
    return torch.stack(drawn) * 2 - 1


@cache
def paths(name: str, attack: str) -> list[tuple[list[Tensor], list[bool]]]:
    """Every image's iterates, and whether each of them fools the model, as it says itself."""
    case = case_of(name)
    model = MODELS[name]().eval()
    found = []
    for row in zip(case.images, case.labels, noise_of(case.images), strict=True):
        path = iterates(attack, model, row, eps=case.eps, steps=STEPS)
        with torch.no_grad():
            fooled = [bool(model(image[None]).argmax() != row[1]) for image in path]
        found.append((path, fooled))
    return found


def first_fooling(path: list[Tensor], fooled: list[bool]) -> Tensor:
    return next((image for image, yes in zip(path, fooled, strict=True) if yes), path[-1])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("attack", SIGN_ATTACKS)
@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_attack_that_is_written_out(name, attack, way):
    """All steps of it; with early stop, up to the first iterate that fools the model."""
    case, references, shortcuts = case_of(name), paths(name, attack), WAYS[way]
    chosen = short(attack, STEPS, eps=case.eps)
    found = attacked(chosen, case.model, case.images, case.labels, shortcuts)
    assert found.shortcuts == shortcuts
    for index, (path, fooled) in enumerate(references):
        expected = first_fooling(path, fooled) if shortcuts.early_stop else path[-1]
        near = 1e-9 if shortcuts.folded else 1e-12
        assert torch.allclose(found.adversarial[index], expected, rtol=0, atol=near), index
        robust = not any(fooled) if shortcuts.early_stop else not fooled[-1]
        assert found.robust[index] == robust


@pytest.mark.parametrize("name", MODELS)
def test_images_are_fooled_at_once_early_late_and_never(name):
    """So that agreeing with the references says something."""
    case = case_of(name)
    steps = [
        fooled.index(True) if any(fooled) else None
        for attack in ("bim", "mim", "pgd")
        for _, fooled in paths(name, attack)
    ]
    assert (case.predictions != case.labels).any()
    assert {None, 0} < set(steps)
    assert len({step for step in steps if step}) >= 3


def test_the_references_differ_from_each_other():
    ends = [
        torch.stack([path[-1] for path, _ in paths("conv_net", attack)]) for attack in SIGN_ATTACKS
    ]
    for first in range(len(ends)):
        for second in range(first):
            assert not torch.allclose(ends[first], ends[second])


@pytest.mark.parametrize("shortcuts", [EXACT, Shortcuts(folded=True, early_stop=True)], ids=str)
@pytest.mark.parametrize("attack", SIGN_ATTACKS)
def test_no_image_s_result_depends_on_others_or_on_the_batch(attack, shortcuts, batches_of):
    case = case_of("normed_net")
    chosen, runs = short(attack, STEPS, eps=case.eps), []
    for size, rows in ((64, 16), (7, 16), (1, 16), (64, 5), (3, 9)):
        batches_of(size)
        images, labels = case.images[:rows], case.labels[:rows]
        runs.append(attacked(chosen, case.model, images, labels, shortcuts))
    whole = runs[0]
    assert 0 < whole.robust.sum() < 16
    for other in runs[1:]:
        rows = len(other.robust)
        assert torch.equal(other.adversarial, whole.adversarial[:rows])
        assert torch.equal(other.robust, whole.robust[:rows])


def test_carlini_wagner_on_the_folded_model_is_the_same_up_to_rounding():
    attack = CW(c=10.0, steps=40, learning_rate=0.05, search_steps=1)
    for name in MODELS:
        case = case_of(name)
        images, labels = case.images[:10], case.labels[:10]
        exact, folded = (
            attacked(attack, case.model, images, labels, shortcuts)
            for shortcuts in (EXACT, Shortcuts(folded=True, early_stop=True))
        )
        assert (exact.adversarial != images).flatten(1).any(dim=1).sum() >= 5
        assert torch.allclose(folded.adversarial, exact.adversarial, rtol=0, atol=1e-7)
        assert torch.equal(folded.robust, exact.robust)


# Momentum


@pytest.mark.parametrize("momentum", [0.0, 0.5, 1.0, 2.0])
def test_two_steps_of_eq_18_by_hand(momentum):
    case, eps = case_of("conv_net"), 0.1
    model, images, labels = MODELS["conv_net"]().eval(), case.images, case.labels
    step = 0.4 * eps
    first = torch.stack([gradient(model, *row) for row in zip(images, labels, strict=True)])
    g1 = first / first.abs().sum(dim=(1, 2, 3), keepdim=True)
    x1 = (images + step * g1.sign()).clamp(0, 1)
    second = torch.stack([gradient(model, *row) for row in zip(x1, labels, strict=True)])
    g2 = momentum * g1 + second / second.abs().sum(dim=(1, 2, 3), keepdim=True)
    x2 = (x1 + step * g2.sign()).clamp(0, 1)
    found = MIM(eps=eps, steps=2, relative_step_size=0.4, momentum=momentum)(
        model, images, labels, exact=True
    )
    assert torch.allclose(found, x2, rtol=0, atol=1e-12)


def test_without_momentum_mim_is_bim():
    case = case_of("conv_net")
    bim, *mims = (
        attack(case.model, case.images, case.labels, exact=True)
        for attack in (BIM(eps=0.1), MIM(eps=0.1, momentum=0), MIM(eps=0.1))
    )
    assert [torch.equal(mim, bim) for mim in mims] == [True, False]


def test_an_image_without_a_gradient_keeps_its_running_sum():
    previous = torch.tensor([1.0, -2.0]).view(1, 1, 1, 2)
    kept = MIM(momentum=0.5).direction(torch.zeros_like(previous), previous)
    assert torch.equal(kept, previous / 2)


def test_a_cosine_takes_steps_from_the_whole_size_down_to_none():
    """As fractions of eps, at each step: size (1 + cos(pi step / steps)) / 2."""
    step = torch.arange(20)
    attack = PGD(steps=20, relative_step_size=2, schedule="cosine")
    expected = [1 + math.cos(math.pi * k / 20) for k in range(20)]
    assert attack.step_sizes(step).tolist() == pytest.approx(expected)
    assert attack.changed(schedule="constant").step_sizes(step).tolist() == [2.0] * 20
    case = case_of("conv_net")
    once = [
        PGD(eps=0.1, steps=1, relative_step_size=1, schedule=schedule)(
            case.model, case.images, case.labels
        )
        for schedule in ("cosine", "constant")
    ]
    assert torch.equal(*once)


# The random start


@pytest.mark.parametrize("name", [name for name in SIGN_ATTACKS if ATTACKS[name].random_start])
def test_the_random_start_is_uniform_in_the_ball(name):
    images = torch.full((40, 1, 10, 10), 0.5, dtype=torch.float64)
    labels = torch.zeros(40, dtype=torch.int64)
    first, again = (
        started(ATTACKS[name](eps=0.2), images, labels, seed=seed).adversarial for seed in (1, 2)
    )
    share = (first - images).flatten(1) / 0.2
    assert kstest(share.flatten(), "uniform", args=(-1, 2)).pvalue > 0.01
    apart = torch.corrcoef(share) - torch.eye(40, dtype=torch.float64)
    assert apart.abs().max() < 0.5  # no two images have the same start
    assert share.mean(dim=0).abs().max() < 5 / math.sqrt(3 * 40)  # nor does a pixel have a bias
    assert not torch.equal(first, again)


@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_the_generator_matters_where_the_start_is_random(name):
    case = case_of("conv_net")
    runs = [
        ATTACKS[name](eps=0.1)(
            case.model, case.images, case.labels, generator=generator(seed), exact=True
        )
        for seed in (1, 2)
    ]
    assert torch.equal(*runs) != ATTACKS[name].random_start


# Training


@pytest.mark.parametrize("name", SIGN_ATTACKS)
def test_budgets_of_their_own_give_each_image_what_its_budget_gives(name):
    case, attack = case_of("conv_net"), short(name, STEPS)
    eps = torch.linspace(0.01, case.eps, 16, dtype=torch.float64)
    noise, seeds = noise_of(case.images), draw_seeds(16, generator())
    with TargetModel(case.model) as target:
        found = attack.perturb(target, case.images, Goal(case.labels, eps=eps), seeds)
        assert target.backward_passes == target.forward_passes == 16 * attack.steps
    for index, row in enumerate(zip(case.images, case.labels, noise, strict=True)):
        model = MODELS["conv_net"]().eval()
        path = iterates(name, model, row, eps=eps[index].item(), steps=STEPS)
        assert torch.allclose(found[index], path[-1], rtol=0, atol=1e-12), index
