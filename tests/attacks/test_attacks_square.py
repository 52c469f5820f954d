"""Square: what its changes look like, its schedule, its numbers, and corners of linear models."""

import copy
import math

import pytest
import torch
from attack_models import case_of
from attack_toys import EARLY_STOP, attacked, linear_model, predictions, random_images, started
from scipy.stats import kstest
from torch import nn

from robustbench_pcl.attacks import Square
from robustbench_pcl.attacks.balls import counted
from robustbench_pcl.attacks.fast_model import Shortcuts
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.attacks.square import bump_of, moved
from robustbench_pcl.attacks.target import TargetModel

SEEDS = torch.arange(5000)


# Numbers by counters


def test_numbers_of_seeds_and_counts_are_uniform_and_unrelated():
    drawn = counted(SEEDS, torch.full_like(SEEDS, 3), 8)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert all(kstest(column, "uniform").pvalue > 0.001 for column in drawn.T)
    assert (torch.corrcoef(drawn.T) - torch.eye(8)).abs().max() < 0.06
    assert len(drawn.unique()) == drawn.numel()


def test_neighbouring_steps_and_seeds_have_other_numbers():
    """Seeds of restarts are neighbours, too."""
    steps = torch.cat([counted(SEEDS, torch.full_like(SEEDS, step), 2) for step in range(20)])
    assert len(steps.unique()) == steps.numel()
    assert kstest(steps.flatten(), "uniform").pvalue > 0.001
    one = counted(torch.full_like(SEEDS, 7), SEEDS, 1)[:, 0]
    assert abs(float(torch.corrcoef(torch.stack([one[1:], one[:-1]]))[0, 1])) < 0.05


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**63 - 1])
def test_every_int64_is_a_seed(seed):
    drawn = counted(torch.tensor([seed]), torch.tensor([5000]), 100)
    assert ((drawn >= 0) & (drawn < 1)).all()


# Changes


def published_side(query, queries, size, p_init=0.8):
    """Section 4.1's schedule, written out as the authors do."""
    at = int(query / queries * 10_000)
    limits = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]
    p = p_init / 2 ** sum(at > limit for limit in limits)
    return max(round(math.sqrt(p * size * size)), 1)


@pytest.mark.parametrize("queries", [100, 5000])
def test_a_change_is_one_square_of_the_side_that_is_due(queries):
    attack, images = Square(eps=0.1, steps=queries), torch.full((200, 3, 32, 32), 0.5).double()
    state = started(attack, images, torch.zeros(200).long())
    for query in (0, 1, 10, queries // 20, queries // 2, queries - 2):
        number = torch.full_like(state.step, query + 1)
        change = attack._changed(state, state.adversarial, number) - state.adversarial
        rows, columns = ((change != 0).any(dim=1).any(dim=axis) for axis in (2, 1))
        side = published_side(query, queries, 32)
        assert rows.sum(dim=1).max() == columns.sum(dim=1).max() == side
        for lines in (rows, columns):  # they hang together
            first = lines.long().argmax(dim=1)
            last = 31 - lines.flip(1).long().argmax(dim=1)
            assert (last - first < side)[lines.any(dim=1)].all()


def test_it_starts_at_stripes_of_all_signs():
    images = torch.full((50, 3, 8, 8), 0.5).double()
    first = started(Square(eps=0.1), images, torch.zeros(50).long()).adversarial - images
    assert torch.allclose(first.abs(), torch.full_like(first, 0.1))
    assert torch.equal(first, first[:, :, :1].expand_as(first))
    assert abs(first.mean()) < 0.01
    assert len(first[:, :, 0].flatten(1).unique(dim=0)) == 50


def test_squares_come_everywhere_also_to_the_last_row_and_column():
    attack, images = Square(eps=0.1, steps=1000), torch.full((400, 1, 6, 6), 0.5).double()
    state = started(attack, images, torch.zeros(400).long())
    hit = torch.zeros(6, 6)
    for query in range(900, 920):
        changed = attack._changed(state, images, torch.full_like(state.step, query)) != images
        hit += changed.sum(dim=(0, 1))
    assert hit.min() > 0.7 * hit.max()


def pyramids(height, width):
    """The authors' way: ever larger rectangles around the middle, each adding less."""
    heights = torch.zeros(height, width, dtype=torch.float64)
    row, column = height // 2, width // 2
    for count in range(max(row, column) + 1):
        top, left = max(row - count, 0), max(column - count, 0)
        heights[top : row + count + 1, left : column + count + 1] += 1 / (count + 1) ** 2
    return heights / heights.norm()


@pytest.mark.parametrize("side", [2, 3, 5, 6, 9])
def test_a_bump_is_two_pyramids_of_opposite_signs(side):
    halves = torch.cat([pyramids(side // 2, side), -pyramids(side - side // 2, side)])
    assert torch.allclose(bump_of(side), halves / halves.norm(), rtol=0, atol=1e-12)


def test_moving_keeps_the_budget_and_leaves_the_rest_in_place():
    images = torch.full((300, 2, 9, 9), 0.5).double()
    state = started(Square(norm="l2", eps=0.5), images, torch.zeros(300).long())
    before = state.adversarial - images
    assert torch.allclose(before.flatten(1).norm(dim=1), torch.tensor(0.5).double())
    drawn = counted(SEEDS[:300], SEEDS[:300], 7)
    halvings = torch.ones(300, dtype=torch.int64)
    after = moved(state.ball, state.adversarial, [7, 3], halvings, drawn) - images
    assert torch.allclose(after.flatten(1).norm(dim=1), torch.tensor(0.5).double())
    same = torch.isclose(after, before, rtol=1e-6, atol=0).all(dim=1).flatten(1).sum(dim=1)
    assert same.min() >= 81 - 2 * 9
    assert same.max() <= 81 - 9


def test_what_of_the_budget_is_unused_comes_into_the_new_window():
    images = torch.full((5, 1, 9, 9), 0.5).double()
    state = started(Square(norm="l2", eps=0.5), images, torch.zeros(5).long())
    drawn = counted(SEEDS[:5], SEEDS[:5], 6)
    after = moved(state.ball, images, [3], torch.zeros(5, dtype=torch.int64), drawn) - images
    assert ((after != 0).flatten(1).sum(dim=1) == 9).all()
    assert torch.allclose(after.flatten(1).norm(dim=1), torch.tensor(0.5).double())


# The attack


def test_on_a_linear_model_it_comes_to_the_corner():
    """Each channel of each pixel goes to the end that the weight's sign says."""
    model, images = linear_model(2, 36, seed=2), random_images(20, 1, 6, 6, low=0.2, high=0.8)
    labels = predictions(model, images)
    weight = (model[1].weight[1] - model[1].weight[0]).detach().view(6, 6)
    towards = torch.where(labels == 0, 1.0, -1.0)[:, None, None, None] * weight.sign()
    made = Square(eps=0.05, steps=1500)(model, images, labels, exact=True)
    right = torch.isclose(made, images + 0.05 * towards, rtol=0, atol=1e-9)
    assert right.double().mean() > 0.99


def test_in_l2_it_comes_near_the_best_of_a_linear_model():
    model, images = linear_model(2, 36, seed=2), random_images(20, 1, 6, 6, low=0.4, high=0.6)
    labels = predictions(model, images)
    weight = (model[1].weight[1] - model[1].weight[0]).detach()
    best = 0.3 * weight.norm()
    made = Square(norm="l2", eps=0.3, steps=1000)(model, images, labels, exact=True)
    gained = ((made - images).flatten(1) @ weight) * torch.where(labels == 0, 1.0, -1.0)
    assert (gained / best).mean() > 0.65  # windows have three pixels a side at least
    assert (gained / best).max() <= 1 + 1e-9


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_asks_for_logits_alone_as_often_as_it_may(norm):
    case = case_of("conv_net")
    attack = Square(norm=norm, eps={"linf": 0.04, "l2": 0.2}[norm], steps=50)
    found = attacked(attack, case.model, case.images, case.labels)
    assert (found.forward_passes, found.backward_passes) == (50 * 16, 0)
    quick = attacked(attack, case.model, case.images, case.labels, EARLY_STOP)
    assert torch.equal(quick.robust, found.robust)
    assert quick.forward_passes < found.forward_passes


class Rounded(nn.Module):
    """A model through which no gradient passes."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model((images * 20).round() / 20)


def test_it_needs_no_gradient():
    case = case_of("conv_net")
    model = Rounded(case.model)
    labels = predictions(model, case.images)
    made = Square(eps=0.1, steps=200)(model, case.images, labels)
    assert (predictions(model, made) != labels).sum() > 4


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (4, 9), (7, 5)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_of_any_shape_are_changed_within_the_budget(norm, size):
    images = random_images(6, 2, *size)
    model = linear_model(3, 2 * size[0] * size[1])
    made = Square(norm=norm, eps=0.2, steps=40)(model, images, predictions(model, images))
    change = (made - images).flatten(1).norm(p=torch.inf if norm == "linf" else 2, dim=1)
    assert change.min() > 0.05
    assert change.max() <= 0.2 + 1e-12


def test_a_target_is_reached():
    model, images = linear_model(4, 36, seed=5), random_images(12, 1, 6, 6)
    targets = (predictions(model, images) + 1) % 4
    attack = Square(eps=0.5, steps=600)
    made = attack(model, images, predictions(model, images), targets=targets)
    assert (predictions(model, made) == targets).double().mean() > 0.9


def test_its_copy_is_in_float32_and_tried_again_before_it_makes_gradients():
    """A random search compares margins that bfloat16 does not tell apart."""
    case, kinds = case_of("normed_net"), []
    model, images = copy.deepcopy(case.model).float(), case.images.float()
    with TargetModel(model, Shortcuts(folded=True, precision="bfloat16")) as target:
        for _ in range(2):
            target.query(images, exact=False)
            kinds.append(target.shortcuts.precision)
            target.differentiate(AttackLoss.margin, images, case.labels, exact=False)
            kinds.append(target.shortcuts.precision)
        assert len(target.copies) == 2
    assert kinds == ["float32", "bfloat16"] * 2
