"""Numbers that an attack rests on: balls rounded inwards, finite gradients, classes, distances."""

import pytest
import torch
from attack_models import filled
from attack_toys import EARLY_STOP, attacked, generator, predictions, random_images
from torch import nn

from robustbench_pcl.attacks import ATTACKS, BIM, FGSM, PGD
from robustbench_pcl.attacks.balls import linf_ball, uniform_noise
from robustbench_pcl.attacks.base import Chunk, Goal
from robustbench_pcl.attacks.checks import apart
from robustbench_pcl.attacks.passes import bounded, decided
from robustbench_pcl.attacks.target import TargetModel

INF, NAN = float("inf"), float("nan")
NARROW = [torch.float16, torch.bfloat16, torch.float32]
RADII = [0.0, 1e-6, 0.001, 1 / 255, 8 / 255, 0.1, 0.3, 0.5, 1.0]


def pixels_of(kind):
    """All values between 0 and 1 that there are in sixteen bits; of float32, many and the ends."""
    if kind == torch.float32:
        few = torch.tensor([0.0, 1.0, 0.5, 1e-7, 1e-38, 1 - 2**-24])
        return torch.cat([few, torch.rand(40_000, generator=generator()), torch.arange(256) / 255])
    every = torch.arange(2**15).to(torch.int16).view(kind)
    return every[every <= 1]


def ball_of(kind, eps):
    images = pixels_of(kind)[:, None, None, None]
    radius = torch.full((len(images), 1, 1, 1), eps, dtype=kind)
    return images, radius.double(), *linf_ball(images, radius)


@pytest.mark.parametrize("eps", RADII)
@pytest.mark.parametrize("kind", NARROW, ids=str)
def test_no_pixel_between_the_ends_of_a_ball_is_further_than_eps(kind, eps):
    """Differences of such numbers are exact in float64, so there is no tolerance."""
    images, radius, low, high = ball_of(kind, eps)
    assert low.dtype == high.dtype == kind
    assert ((images.double() - low.double()) <= radius).all()
    assert ((high.double() - images.double()) <= radius).all()
    assert ((low >= 0) & (low <= images) & (images <= high) & (high <= 1)).all()


@pytest.mark.parametrize("eps", RADII)
@pytest.mark.parametrize("kind", NARROW, ids=str)
def test_a_ball_is_smaller_than_eps_by_rounding_alone(kind, eps):
    images, radius, low, high = ball_of(kind, eps)
    unit = 2 * torch.finfo(kind).eps
    lowest = (images.double() - radius).clamp_min(0)
    highest = (images.double() + radius).clamp_max(1)
    assert (low.double() - lowest <= unit).all()
    assert (highest - high.double() <= unit).all()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("eps", [0.001, 8 / 255, 0.3])
@pytest.mark.parametrize("kind", NARROW, ids=str)
@pytest.mark.parametrize("name", ["fgsm", "bim", "mim", "pgd"])
@pytest.mark.filterwarnings("ignore:Attacked .*more slowly")
def test_adversarial_images_are_within_eps_to_the_last_bit(name, kind, eps, exact):
    model = filled(nn.Sequential(nn.Flatten(), nn.Linear(192, 3))).to(kind)
    images = random_images(12, 3, 8, 8).to(kind)
    made = ATTACKS[name](eps=eps)(model, images, predictions(model, images), exact=exact)
    budget = torch.tensor(eps, dtype=kind).double()
    assert (made.double() - images.double()).abs().max() <= budget
    assert not torch.equal(made, images) or (kind != torch.float32 and eps == 0.001)


@pytest.mark.parametrize(
    "kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_a_budget_that_the_images_type_does_not_have_is_kept_too(kind):
    """0.1 is 0.10009765625 in bfloat16 and 0.10000000149 in float32."""
    model = filled(nn.Sequential(nn.Flatten(), nn.Linear(192, 3))).to(kind)
    images = torch.zeros(12, 3, 8, 8, dtype=kind)
    images[1:] = random_images(11, 3, 8, 8).to(kind)
    made = FGSM(eps=0.1)(model, images, predictions(model, images), exact=True)
    assert (made.double() - images.double()).abs().max() <= 0.1 + 1e-15


def test_each_image_has_the_ball_of_its_own_budget():
    images = torch.full((3, 1, 1, 2), 0.5)
    low, high = linf_ball(images, torch.tensor([0.0, 0.25, 0.75])[:, None, None, None])
    assert low.flatten(1)[:, 0].tolist() == [0.5, 0.25, 0.0]
    assert high.flatten(1)[:, 0].tolist() == [0.5, 0.75, 1.0]


@pytest.mark.parametrize("kind", [*NARROW, torch.float64], ids=str)
def test_a_random_start_is_in_the_ball_and_its_own_seed_s(kind):
    images, seeds = random_images(6, 1, 4, 4).to(kind), torch.tensor([3, 1, 4, 1, 5, 9])
    noise = uniform_noise(images, seeds)
    assert noise.dtype == kind
    assert noise.abs().max() <= 1
    assert torch.equal(noise[1], noise[3])
    assert torch.equal(noise[2:3], uniform_noise(images[:1], seeds[2:3]))


# Gradients that are finite

BOUNDED = {
    "finite ones stay": ([1.0, -2.0, 0.0], [1, -2, 0], False),
    "NaN is nothing": ([NAN, -2.0, 1.0], [0, -2, 1], False),
    "infinity is the largest": ([INF, -2.0, 1.0], [2, -2, 1], False),
    "in its own direction": ([-INF, INF, 0.5], [-0.5, 0.5, 0.5], False),
    "of each kind": ([NAN, -INF, 3.0], [0, -3, 3], False),
    "beside zeros it is one": ([INF, 0.0, -INF], [1, 0, -1], False),
    "nothing is finite": ([INF, NAN, -INF], [0, 0, 0], True),
    "all is NaN": ([NAN, NAN, NAN], [0, 0, 0], True),
    "zeros are seen": ([0.0, 0.0, 0.0], [0, 0, 0], False),
}


@pytest.mark.parametrize("kind", [*NARROW, torch.float64], ids=str)
@pytest.mark.parametrize("case", BOUNDED)
def test_gradients_are_made_finite(case, kind):
    given, expected, blind = BOUNDED[case]
    found, seen = bounded(torch.tensor(given, dtype=kind).view(1, 1, 1, 3))
    assert found.flatten().tolist() == expected
    assert seen.tolist() == [blind]
    assert found.dtype == kind


def test_each_image_s_gradient_is_bounded_by_its_own_pixels():
    rows = torch.tensor([given for given, _, _ in BOUNDED.values()])[:, None, None]
    found, blind = bounded(rows)
    assert found.flatten(1).tolist() == [expected for _, expected, _ in BOUNDED.values()]
    assert blind.tolist() == [each for _, _, each in BOUNDED.values()]


class Rooted(nn.Module):
    """Logits that fall with the root of the first pixel: from 0, the slope is infinite."""

    def forward(self, images):
        pixels = images.flatten(1)
        value = pixels[:, 0].sqrt() + 0.1 * pixels[:, 1] - 0.05
        return torch.stack([-value, value], dim=1)


def test_an_infinite_slope_is_followed():
    images = torch.zeros(2, 1, 1, 2, dtype=torch.float64)
    images[1] = 0.0001
    found = attacked(BIM(eps=0.01), Rooted(), images, torch.zeros(2).long())
    assert not found.robust.any()
    assert (found.adversarial > images).all()


class Unseen(nn.Module):
    """A model whose gradient is NaN in every pixel of bright images."""

    def forward(self, images):
        value = images.flatten(1).mean(dim=1)
        hidden = torch.where(value > 0.6, 0 * value, 1 + 0 * value).sqrt() * 0
        return torch.stack([0.7 - value, value - 0.3], dim=1) + hidden[:, None]


def test_who_withstands_only_because_nothing_is_seen_is_reported():
    images = torch.tensor([0.2, 0.8, 0.65, 0.25]).double().view(4, 1, 1, 1).expand(-1, 1, 2, 2)
    labels = torch.tensor([0, 1, 0, 0])  # the third is wrong already
    with pytest.warns(UserWarning, match="^1 of 4 images withstood only because their gradient"):
        made = PGD(eps=0.01)(Unseen(), images, labels, exact=True)
    assert made.isfinite().all()
    said: list[str] = []
    with TargetModel(Unseen(), say=said.append) as target:
        target.blind = {1, 2}
        assert target.warn_of_blind_images(images, labels).tolist() == [False, True, False, False]
        target.blind = {2}
        assert not target.warn_of_blind_images(images, labels).any()
    assert len(said) == 1


# Classes and distances


def test_a_class_is_the_largest_logit_s_and_none_where_one_is_nan():
    logits = torch.tensor([[0.0, 2, 1], [INF, 0, 1], [NAN, 2, 1], [3, -INF, NAN], [-INF, -INF, 0]])
    assert decided(logits).tolist() == [1, 0, -1, -1, 2]


class Torn(nn.Module):
    """Class 0, and NaN from one half on."""

    def forward(self, images):
        value = images.flatten(1).mean(dim=1) - 0.6
        value = torch.where(value > -0.1, torch.full_like(value, NAN), value)
        return torch.stack([-value, value], dim=1)


@pytest.mark.parametrize(("targeted", "moves"), [(False, True), (True, False)])
def test_a_model_that_answers_nan_is_fooled_but_reaches_no_target(targeted, moves):
    images, labels = torch.full((2, 1, 1, 1), 0.495).double(), torch.tensor([0, 0])
    goal = Goal(labels + 1 if targeted else labels, targeted)
    with TargetModel(Torn(), EARLY_STOP) as target:
        chunk = Chunk(torch.arange(2), images, goal, labels)
        (done,) = BIM(eps=0.01, steps=4, relative_step_size=0.6).stream(target, iter([chunk]), 2)
    assert done.predictions.tolist() == [-1, -1]
    assert goal.reached(done.predictions).tolist() == [not targeted] * 2
    assert torch.allclose(done.images, images + (0.006 if moves else 0.01), rtol=0, atol=0.005)


APART = [
    ([0.0, 1.0], [0.0, 1.0], 0.0),
    ([0.0, 2.0], [0.0, 1.0], 0.5),
    ([0.0, 2.0, 1.0], [4.0, 2.0, 1.0], 2.0),
    ([1.0, 1.0], [1.0, 1.0], 0.0),  # no range, no difference
    ([1.0, 1.0], [1.0, 2.0], INF),
]


@pytest.mark.parametrize(("logits", "others", "expected"), APART)
def test_logits_are_apart_by_a_share_of_their_range(logits, others, expected):
    assert apart(torch.tensor([logits]), torch.tensor([others])).tolist() == [expected]


def test_nan_is_near_nothing():
    whole, torn = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, NAN]])
    for pair in ((whole, torn), (torn, whole), (torn, torn)):
        assert not (apart(*pair) <= 1e9).any()
