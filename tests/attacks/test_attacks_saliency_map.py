"""JSMA: the most salient pair among all, and no more pixels than it may change."""

import pytest
import torch
from attack_models import case_of
from attack_toys import attacked, generator, predictions
from torch import nn

from robustbench_pcl.attacks import JSMA
from robustbench_pcl.attacks.saliency_map import salient_pairs


def every_pair(gain, fall, shut):
    """Algorithm 3's search, written out: the best product, and whose it is."""
    best, pair = 0.0, None
    for p in range(len(gain)):
        for q in range(p + 1, len(gain)):
            both = gain[p] + gain[q], fall[p] + fall[q]
            if not shut[p] and not shut[q] and min(both) > 0 and both[0] * both[1] > best:
                best, pair = float(both[0] * both[1]), {p, q}
    return best, pair


@pytest.mark.parametrize("related", [-0.9, 0.0, 0.9])
@pytest.mark.parametrize("pixels", [1, 2, 3, 30])
def test_the_pair_is_the_best_of_all_pairs(pixels, related):
    drawn = torch.randn(40, 2, pixels, generator=generator(pixels), dtype=torch.float64)
    gain, fall = drawn[:, 0], related * drawn[:, 0] + (1 - related**2) ** 0.5 * drawn[:, 1]
    shut = torch.rand(gain.shape, generator=generator(3)) < 0.2
    pairs, salient = salient_pairs(gain, fall, shut)
    for row in range(40):
        product, pair = every_pair(gain[row], fall[row], shut[row])
        assert salient[row] == (pair is not None)
        if pair is not None:
            assert set(pairs[row].tolist()) == pair
            p, q = pairs[row].tolist()
            found = (gain[row, p] + gain[row, q]) * (fall[row, p] + fall[row, q])
            assert found.item() == pytest.approx(product)


def test_no_pair_is_salient_where_every_pixel_is_shut():
    ones = torch.ones(2, 4)
    shut = torch.tensor([[True] * 4, [True] * 3 + [False]])
    assert not salient_pairs(ones, ones, shut)[1].any()


def sums_of_own_pixels(classes=3, each=6):
    """Class k's score is the sum of its own pixels, weighted from 1 to 2, less that of all."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(classes * each, classes, bias=False).double())
    with torch.no_grad():
        own = torch.eye(classes).repeat_interleave(each, dim=1)
        model[1].weight.copy_(own * torch.linspace(1, 2, each).repeat(classes) - 1)
    return model


def test_pairs_are_raised_from_the_most_salient_on_until_the_class_changes():
    """The target's own pixels with the largest weights, two at a time."""
    model = sums_of_own_pixels()
    images = torch.full((1, 1, 3, 6), 0.3).double()
    images[:, :, 0] = 0.7
    assert predictions(model, images).tolist() == [0]
    made = JSMA(gamma=1.0)(model, images, torch.tensor([0]), targets=torch.tensor([2]), exact=True)
    assert predictions(model, made).tolist() == [2]
    changed = (made != images)[0, 0]
    assert changed.tolist() == [[False] * 6, [False] * 6, [False] * 2 + [True] * 4]
    assert (made[0, 0, 2, 2:] == 1).all()


@pytest.mark.parametrize("theta", [1.0, -1.0, 0.3])
@pytest.mark.parametrize("gamma", [0.03, 0.2])
def test_no_more_pixels_change_than_gamma_allows(gamma, theta):
    case = case_of("conv_net")
    found = attacked(JSMA(gamma=gamma, theta=theta), case.model, case.images, case.labels)
    change = (found.adversarial - case.images).flatten(1)
    assert (change != 0).sum(dim=1).max() <= gamma * 72
    assert (change * theta >= 0).all()
    assert not found.robust.all()
    right = case.labels == case.predictions
    assert torch.equal(found.adversarial[~right], case.images[~right])


def test_more_pixels_fell_more_images():
    case = case_of("conv_net")
    few, many = (
        attacked(JSMA(gamma=gamma), case.model, case.images, case.labels) for gamma in (0.03, 0.5)
    )
    assert few.robust.sum() > many.robust.sum()


def test_a_change_by_nothing_is_refused():
    with pytest.raises(ValueError, match="a change by 0 is none"):
        JSMA(theta=0)
