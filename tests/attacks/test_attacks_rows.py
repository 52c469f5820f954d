"""Columns with a row per image, and the queues they wait in."""

from dataclasses import dataclass

import pytest
import torch
from attack_toys import EVERY, short, started
from torch import Tensor

from robustbench_pcl.attacks import CW, PGD
from robustbench_pcl.attacks.base import Chunk, Goal
from robustbench_pcl.attacks.rows import Queue, Rows, part
from robustbench_pcl.attacks.runner import Suspect


@dataclass(frozen=True, eq=False)
class Pair(Rows):
    number: Tensor
    shape: Tensor
    word: str = "same"


@dataclass(frozen=True, eq=False)
class Nest(Rows):
    inner: Pair
    own: Tensor
    nothing: Tensor | None = None


def pair(*numbers):
    number = torch.tensor(numbers)
    return Pair(number, number[:, None, None].expand(-1, 2, 3) * 1.0, "kept")


def nest(*numbers):
    return Nest(pair(*numbers), torch.tensor(numbers) * 10)


def numbers(rows):
    """Those of a nest, after a look at each of its columns."""
    found = rows.inner.number
    assert len(rows) == len(rows.inner) == len(found)
    assert torch.equal(rows.own, 10 * found)
    assert torch.equal(rows.inner.shape, found[:, None, None].expand(-1, 2, 3) * 1.0)
    assert (rows.inner.word, rows.nothing) == ("kept", None)
    return found.tolist()


CHOICES = {
    "an index": (torch.tensor([3, 0, 0]), [8, 5, 5]),
    "a mask": (torch.tensor([True, False, True, False]), [5, 7]),
    "a slice": (slice(1, 3), [6, 7]),
    "nobody": (torch.zeros(4, dtype=torch.bool), []),
    "all": (slice(None), [5, 6, 7, 8]),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_column_and_those_inside_are_chosen_alike(choice):
    rows, expected = CHOICES[choice]
    whole = nest(5, 6, 7, 8)
    assert numbers(whole[rows]) == expected
    assert numbers(whole) == [5, 6, 7, 8]


def test_parts_are_joined_in_their_order_in_every_column():
    assert numbers(Nest.join([nest(3, 1), nest(), nest(2), nest(1)])) == [3, 1, 2, 1]


def test_one_part_is_joined_without_a_copy():
    whole = nest(1, 2)
    joined = Nest.join([whole])
    assert joined.inner is whole.inner
    assert joined.own is whole.own


@pytest.mark.parametrize("attack", [PGD(), CW()], ids=str)
def test_a_state_that_is_cut_and_joined_is_the_same(attack):
    images = torch.rand((5, 1, 2, 2), generator=torch.Generator().manual_seed(0))
    eps = torch.linspace(0.1, 0.5, 5)
    whole = started(attack, images, torch.arange(5), eps=eps, targeted=True)
    suspect = Suspect(whole, images)
    again = Suspect.join([suspect[:2], suspect[torch.tensor([2])], suspect[3:]])
    assert type(again.state) is type(whole)
    assert again.state.chunk.goal.targeted
    assert torch.equal(again.state.chunk.goal.eps, eps)
    for name, value in vars(whole).items():
        if isinstance(value, Tensor):
            assert torch.equal(getattr(again.state, name), value), name
    for name in ("rows", "images", "seeds"):
        assert torch.equal(getattr(again.state.chunk, name), getattr(whole.chunk, name))


def test_a_goal_without_budgets_stays_without():
    goal = Goal(torch.arange(3))
    assert goal[1:].eps is None
    assert Goal.join([goal, goal]).eps is None
    assert len(Goal.join([goal, goal])) == 6


@pytest.mark.parametrize(
    ("targeted", "reached"), [(False, [False, True, True]), (True, [True, False, False])]
)
def test_a_goal_is_another_class_or_that_one_and_nan_is_no_target(targeted, reached):
    goal = Goal(torch.tensor([1, 1, 1]), targeted)
    assert goal.reached(torch.tensor([1, 0, -1])).tolist() == reached


@pytest.mark.parametrize(
    ("mask", "first", "second"),
    [
        ([True, False, True], [1, 3], [2]),
        ([False] * 3, None, [1, 2, 3]),
        ([True] * 3, [1, 2, 3], None),
    ],
)
def test_parts_are_who_is_in_a_mask_and_who_is_not(mask, first, second):
    whole = nest(1, 2, 3)
    found = part(whole, torch.tensor(mask))
    assert [rows and numbers(rows) for rows in found] == [first, second]
    if None in found:
        assert whole in found  # no copy


# Queues


def waiting(*parts):
    queue = Queue()
    for rows in reversed(parts):
        queue.put(nest(*rows))
    return queue


def test_who_is_put_back_comes_first():
    queue = waiting([1, 2], [3])
    queue.put(nest(8, 9))
    assert len(queue) == 5
    assert numbers(queue.take(4)) == [8, 9, 1, 2]
    assert numbers(queue.take(4)) == [3]
    assert not queue


def test_nobody_is_put():
    queue = Queue()
    queue.put(None)
    assert len(queue) == 0


def test_a_full_batch_goes_round_without_a_copy():
    queue, batch = waiting([4, 5, 6]), nest(1, 2, 3)
    queue.put(batch)
    assert queue.take(3) is batch
    assert numbers(queue.take(3)) == [4, 5, 6]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7])
def test_all_are_taken_once_and_in_order(size):
    queue, taken = waiting([1, 2], [], [3, 4, 5], [6]), []
    while queue:
        some = numbers(queue.take(size))
        assert len(some) == min(size, 6 - len(taken))
        taken += some
    assert taken == [1, 2, 3, 4, 5, 6]


def test_no_more_is_drawn_than_is_asked_for_and_those_come_last():
    drawn = []

    def source():
        for number in range(5):
            drawn.append(number)
            yield nest(number, number)

    queue = Queue(source())
    assert drawn == []
    queue.fill(3)
    queue.put(nest(9))
    assert drawn == [0, 1]
    queue.fill(5)
    assert drawn == [0, 1]
    assert numbers(queue.take(5)) == [9, 0, 0, 1, 1]
    queue.fill(100)
    assert len(queue) == 6
    queue.fill(100)
    assert len(queue) == 6


def test_a_chunk_has_as_many_rows_as_images_for_every_attack():
    images = torch.zeros(4, 1, 2, 2)
    for name in EVERY:
        state = started(short(name), images, torch.zeros(4).long())
        assert isinstance(state.chunk, Chunk)
        for value in vars(state).values():
            if isinstance(value, Tensor):
                assert len(value) == 4
