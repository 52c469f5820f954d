"""The sign-gradient attacks against Eq. 16 to 19, 22 and 23, written out one image at a time."""

import math

import pytest
import torch
import torch.nn.functional as F
from attack_toys import SIGN_ATTACKS, conv_net, generator, predictions, random_images, some_wrong
from scipy.stats import kstest
from torch import Tensor

from robustbench_pcl.attacks import ATTACKS, BIM, FGSM, MIM, PGD
from robustbench_pcl.attacks.base import draw_seeds, uniform_noise

EPS = 0.1


def gradient(model, image: Tensor, label: Tensor) -> Tensor:
    image = image.clone().requires_grad_(True)
    F.cross_entropy(model(image[None]), label[None]).backward()
    return image.grad


def clip(moved: Tensor, image: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(moved, image - EPS), image + EPS).clamp(0, 1)


def fgsm(model, image, label, noise):
    return clip(image + EPS * gradient(model, image, label).sign(), image)  # Eq. 16


def bim(model, image, label, noise):
    moved = image
    for _ in range(10):
        moved = clip(moved + EPS / 10 * gradient(model, moved, label).sign(), image)  # Eq. 17
    return moved


def mim(model, image, label, noise):
    moved, momentum = image, 0
    for _ in range(10):
        slope = gradient(model, moved, label)
        momentum = 1.0 * momentum + slope / slope.abs().sum()  # Eq. 18
        moved = clip(moved + EPS / 10 * momentum.sign(), image)  # Eq. 19
    return moved


def pgd(model, image, label, noise):
    moved = clip(image + EPS * noise, image)
    for _ in range(10):
        moved = moved + EPS / 4 * gradient(model, moved, label).sign()  # Eq. 22
        moved = clip(moved, image)  # Eq. 23
    return moved


REFERENCES = {"fgsm": fgsm, "bim": bim, "mim": mim, "pgd": pgd}


class Case:
    def __init__(self) -> None:
        self.model = conv_net().eval()
        self.images = random_images(24, 2, 6, 6)
        self.images[:4] = self.images[:4].round()
        self.labels = some_wrong(predictions(self.model, self.images), 5)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.mark.parametrize("name", REFERENCES)
def test_with_table_2_parameters_it_is_the_written_out_attack(case, name):
    noise = uniform_noise(case.images, draw_seeds(24, generator(5)))
    found = ATTACKS[name](eps=EPS)(case.model, case.images, case.labels, generator=generator(5))
    for index in range(24):
        expected = REFERENCES[name](
            case.model, case.images[index], case.labels[index], noise[index]
        )
        assert torch.allclose(found[index], expected, rtol=0, atol=1e-12), index


def test_the_references_differ_from_each_other(case):
    """So that agreeing with one of them says something."""
    noise = uniform_noise(case.images, draw_seeds(24, generator(5)))
    found = [
        torch.stack(
            [attack(case.model, *row) for row in zip(case.images, case.labels, noise, strict=True)]
        )
        for attack in REFERENCES.values()
    ]
    for first in range(len(found)):
        for second in range(first):
            assert not torch.allclose(found[first], found[second])


def test_table_2():
    assert (FGSM().steps, FGSM().relative_step_size) == (1, 1.0)
    assert (BIM().steps, BIM().relative_step_size) == (10, 0.1)
    assert (MIM().steps, MIM().relative_step_size, MIM().momentum) == (10, 0.1, 1.0)
    assert (PGD().steps, PGD().relative_step_size) == (10, 0.25)
    assert (ATTACKS["cw"]().steps, ATTACKS["cw"]().learning_rate) == (1000, 0.01)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 1.0, 2.0])
def test_two_steps_of_eq_18_by_hand(case, momentum):
    model, images, labels = case.model, case.images, case.labels
    step = 0.4 * EPS
    first = torch.stack([gradient(model, *row) for row in zip(images, labels, strict=True)])
    g1 = first / first.abs().sum(dim=(1, 2, 3), keepdim=True)
    x1 = (images + step * g1.sign()).clamp(0, 1)
    second = torch.stack([gradient(model, *row) for row in zip(x1, labels, strict=True)])
    g2 = momentum * g1 + second / second.abs().sum(dim=(1, 2, 3), keepdim=True)
    x2 = (x1 + step * g2.sign()).clamp(0, 1)
    found = MIM(eps=EPS, steps=2, relative_step_size=0.4, momentum=momentum)(model, images, labels)
    assert torch.allclose(found, x2, rtol=0, atol=1e-12)


def test_momentum_changes_what_mim_does(case):
    runs = [
        MIM(eps=EPS, momentum=momentum)(case.model, case.images, case.labels)
        for momentum in (0.0, 1.0)
    ]
    assert not torch.equal(*runs)
    assert torch.equal(runs[0], BIM(eps=EPS)(case.model, case.images, case.labels))


def test_an_image_without_a_gradient_keeps_its_running_sum():
    previous = torch.tensor([1.0, -2.0]).view(1, 1, 1, 2)
    kept = MIM(momentum=0.5).direction(torch.zeros_like(previous), previous)
    assert torch.equal(kept, previous / 2)


@pytest.mark.parametrize("name", [name for name in SIGN_ATTACKS if ATTACKS[name].random_start])
def test_the_random_start_is_uniform_in_the_ball(name):
    class Flat(torch.nn.Module):
        def forward(self, images):
            return (images * 0).flatten(1)[:, :2]

    images = torch.full((40, 1, 10, 10), 0.5, dtype=torch.float64)
    labels = torch.zeros(40, dtype=torch.int64)
    started = ATTACKS[name](eps=0.2)(Flat(), images, labels, generator=generator(1))
    share = (started - images).flatten(1) / 0.2
    assert kstest(share.flatten(), "uniform", args=(-1, 2)).pvalue > 0.01
    apart = torch.corrcoef(share) - torch.eye(40, dtype=torch.float64)
    assert apart.abs().max() < 0.5  # no two images have the same start
    assert share.mean(dim=0).abs().max() < 5 / math.sqrt(3 * 40)  # nor does a pixel have a bias
    again = ATTACKS[name](eps=0.2)(Flat(), images, labels, generator=generator(2))
    assert not torch.equal(started, again)


@pytest.mark.parametrize("name", [name for name in SIGN_ATTACKS if not ATTACKS[name].random_start])
def test_without_a_random_start_the_generator_does_not_matter(case, name):
    runs = [
        ATTACKS[name](eps=EPS)(case.model, case.images, case.labels, generator=generator(seed))
        for seed in (1, 2)
    ]
    assert torch.equal(*runs)
