"""On a linear model everything is known: which images withstand, and what each check measures."""

import pytest
import torch
from torch import nn

from robustbench_pcl import PGD, Square, diagnose
from robustbench_pcl.errors import InvalidInputError, UserError

EPS = 0.05
N = 200


class Linear(nn.Module):
    """Two classes by a weighted sum of pixels, times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(3)
        self.head = nn.Linear(16, 2)
        self.factor = factor
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(2, 16, generator=source))
            self.head.bias.copy_(-self.head.weight.sum(dim=1) / 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.factor * self.head(images.flatten(1))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """No pixel is within eps of 0 or 1, so that balls are whole."""
    return 0.1 + 0.8 * torch.rand((N, 1, 4, 4), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def labels(images) -> torch.Tensor:
    return Linear()(images).argmax(dim=1)


@pytest.fixture(scope="module")
def optimum(images) -> int:
    """Images that no perturbation fells: the margin is above eps times the weights' L1 norm."""
    model = Linear()
    logits = model(images)
    weight = model.head.weight
    reach = EPS * (weight[0] - weight[1]).abs().sum()
    return int(((logits[:, 0] - logits[:, 1]).abs() > reach).sum())


@pytest.fixture(scope="module")
def found(images, labels):
    return diagnose(Linear(), images, labels, EPS)


def by_code(found):
    return {check.code: check for check in found.checks}


def test_what_withstands_is_the_exact_optimum(found, optimum):
    assert found.verdict == "holds"
    assert found.correct == found.withstood == optimum
    assert (found.clean, found.n) == (N, N)
    assert 0.3 * N < optimum < 0.9 * N


def test_every_check_that_can_be_asked_is_passed(found):
    untold = {check.code for check in found.checks if check.passed is None}
    assert untold == {"PCL202"}  # no other model was given
    assert all(check.passed for check in found.checks if check.code not in untold)


def test_a_linear_gradient_keeps_its_promise_exactly(found):
    assert by_code(found)["PCL221"].measured["came, median"] == pytest.approx(1, abs=1e-3)


def test_the_margins_percentiles_are_those_of_the_logits(found, images):
    logits = Linear()(images).detach().double()
    lead = (logits[:, 0] - logits[:, 1]).abs()
    measured = by_code(found)["PCL212"].measured
    for share in (5, 50, 95):
        expected = float(lead.quantile(share / 100))
        assert measured[f"margin, percentile {share}"] == pytest.approx(expected, abs=1e-4)


def test_attacks_find_every_adversarial_image_that_is_there(found):
    assert [(each.found, each.n) for each in found.competence] == [(60, 60)] * 2


def test_large_logits_change_the_number_and_not_what_withstands(images, labels, optimum):
    found = diagnose(Linear(1e4), images, labels, EPS)
    assert found.verdict == "saturated"
    assert found.correct > optimum + 0.05 * N
    assert found.withstood == optimum
    assert by_code(found)["PCL212"].measured["lost"] > 90
    plain, margin = found.competence
    assert (margin.found, margin.n) == (60, 60)
    assert plain.found < 12


def test_a_margin_attacks_number_on_the_same_model_holds(images, labels, optimum):
    attack = PGD(eps=EPS, loss="margin")
    found = diagnose(Linear(1e4), images, labels, EPS, attack=attack)
    assert (found.verdict, found.correct) == ("holds", optimum)


def test_a_number_of_zero_holds(images, labels):
    found = diagnose(Linear(), images, labels, 1.0)
    assert (found.verdict, found.correct, found.withstood) == ("holds", 0, 0)


def test_short_steps_rise_evenly_to_the_end(images, labels):
    attack = PGD(eps=EPS, steps=20, relative_step_size=1e-3)
    found = diagnose(Linear(), images, labels, EPS, attack=attack)
    assert found.verdict == "attack too weak"
    check = by_code(found)["PCL241"]
    assert check.passed is False
    assert check.measured["last tenth"] == pytest.approx(10, abs=0.1)


def test_another_norm_has_another_optimum(images, labels):
    found = diagnose(Linear(), images, labels, 0.3, norm="l2")
    weight = Linear().head.weight
    reach = 0.3 * (weight[0] - weight[1]).norm()
    logits = Linear()(images)
    exact = int(((logits[:, 0] - logits[:, 1]).abs() > reach).sum())
    assert (found.norm, found.verdict) == ("l2", "holds")
    assert exact <= found.correct <= exact + 4  # pixels near 0 or 1 bound the ball
    assert found.withstood == found.correct


def test_few_images_are_not_enough_for_a_number_to_hold(images, labels):
    found = diagnose(Linear(), images[:60], labels[:60], EPS)
    assert found.verdict == "not enough evidence"
    right = "60 of 60 images are right before the attack"
    assert found.sentence == f"{right}, and 100 are needed: give more."


def test_nothing_is_known_where_no_image_is_right(images, labels):
    found = diagnose(Linear(), images, 1 - labels, EPS)
    assert (found.verdict, found.clean, found.withstood) == ("not enough evidence", 0, 0)
    assert [check.code for check in found.checks] == ["PCL251"]


def test_a_seed_gives_the_same_again_and_leaves_random_numbers_alone(images, labels):
    model = Linear()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again = (diagnose(model, images[:9], labels[:9], EPS, seed=7) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert (first.checks, first.competence) == (again.checks, again.competence)


def test_the_model_is_left_as_it_was(images, labels):
    model = Linear().train()
    diagnose(model, images[:8], labels[:8], EPS, attack=Square(eps=EPS, steps=5))
    assert model.training
    assert all(value.requires_grad for value in model.parameters())
    assert not model.head._forward_hooks


def test_what_is_found_can_be_read(found):
    first, *lines = repr(found).splitlines()
    assert first.startswith("holds (PCL101): PGD leaves ")
    assert len(lines) == len(found.checks)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attack": "pdg"}, "no attack called 'pdg'"),
        ({"attack": "deepfool", "eps": None}, "has no budget"),
        ({"attack": PGD(eps=0.2)}, "may change more than"),
        ({"attack": PGD(eps=0)}, "With eps 0, no pixel may change"),
        ({"eps": "12/255x"}, "is not a number"),
        ({"eps": 8}, "larger than the whole pixel range"),
    ],
)
def test_what_cannot_be_judged_is_refused(images, labels, changes, said):
    with pytest.raises(UserError, match=said):
        diagnose(Linear(), images, labels, **{"eps": EPS, **changes})


def test_images_that_are_none_are_refused(images, labels):
    with pytest.raises(InvalidInputError, match="Divide 8-bit images"):
        diagnose(Linear(), (images * 255).byte(), labels, EPS)
    with pytest.raises(InvalidInputError, match="no images"):
        diagnose(Linear(), images[:0], labels[:0], EPS)
