"""The paper's tables against each other, and against its text."""

from __future__ import annotations

import math
import re
from itertools import combinations

import pytest

from robustbench_pcl.paper.tables import Position, published, published_numbers

PRINTED = [
    (number, position)
    for number in published_numbers()
    for dataset in published(number).datasets
    for position in published(number).positions(dataset)
    if position.published is not None
]
# (table, number) twice for each question that two tables answer differently.
CONTRADICTIONS = {
    ((3, 40.9), (6, 39.7)),  # C&W on MNIST
    ((3, 37.3), (5, 41.1)),  # C&W on CIFAR-10
    ((3, 5.7), (5, 55.7)),
    ((3, 51.8), (5, 60.5)),
    ((3, 46.7), (13, 49.1)),  # PGD on CIFAR-10
    ((4, 46.7), (13, 49.1)),
    ((3, 68.32), (8, 71.9)),  # which model Ours is on CIFAR-100
    ((7, 68.3), (8, 71.9)),
}


def budget(position: Position) -> float:
    attack = position.cell.attack
    if attack is None:
        return 0
    return attack.c if attack.name == "cw" else attack.eps


def question(position: Position) -> tuple[object, ...]:
    """All that is asked but for the budget."""
    cell = position.cell
    attack = cell.attack and (cell.attack.name, cell.attack.loss)
    return cell.dataset, cell.target, cell.source, cell.quantity, attack


def pairs() -> list[tuple[tuple[int, Position], tuple[int, Position]]]:
    """Positions that differ in nothing but their tables and budgets."""
    return [pair for pair in combinations(PRINTED, 2) if len({question(p) for _, p in pair}) == 1]


def same_budget(one: Position, other: Position) -> bool:
    return math.isclose(budget(one), budget(other), rel_tol=0.05)  # 8/255 is printed as 0.03 too


def assert_both_remarked(first: tuple[int, Position], second: tuple[int, Position]) -> None:
    for (_, position), (other, _) in ((first, second), (second, first)):
        named = re.search(r"Tables? ([\d and]+) print", position.remark)
        assert named
        assert str(other) in re.findall(r"\d+", named[1])


def test_tables_that_ask_the_same_agree_or_say_that_they_do_not():
    alike = [pair for pair in pairs() if same_budget(pair[0][1], pair[1][1])]
    assert len(alike) > 100
    different = set()
    for first, second in alike:
        values = [(number, position.published) for number, position in (first, second)]
        if abs(values[0][1] - values[1][1]) > 0.05 + 1e-9:  # one table rounds to one decimal
            different.add(tuple(values))
            assert_both_remarked(first, second)
    assert different == CONTRADICTIONS


def test_a_larger_budget_leaves_less_but_where_the_remarks_say_so():
    ordered = [
        sorted(pair, key=lambda printed: budget(printed[1]))
        for pair in pairs()
        if not same_budget(pair[0][1], pair[1][1])
    ]
    assert len(ordered) > 100
    odd = [(low, high) for low, high in ordered if low[1].published < high[1].published - 0.05]
    assert [(low[0], low[1].published, high[0], high[1].published) for low, high in odd] == [
        (8, 49.1, 3, 60.9)
    ]
    for low, high in odd:
        assert_both_remarked(low, high)


def test_every_attack_leaves_less_than_no_attack():
    clean = {
        (position.cell.dataset, position.cell.target): position.published
        for _, position in PRINTED
        if position.cell.attack is None and position.cell.quantity == "accuracy"
    }
    attacked = [position for _, position in PRINTED if position.cell.attack]
    compared = [p for p in attacked if (p.cell.dataset, p.cell.target) in clean]
    assert len(compared) > 500
    for position in compared:
        assert position.published < clean[position.cell.dataset, position.cell.target]


def test_white_box_leaves_less_than_black_box_and_the_adaptive_attack_no_more():
    for number, stronger, weaker in (
        (3, "White-box", "Black-box"),
        (4, "Adaptive", "Conventional"),
    ):
        for dataset in published(number).datasets:
            numbers = {
                (p.row.name, p.column.group, p.column.label): p.published
                for p in published(number).positions(dataset)
            }
            for (row, group, label), value in numbers.items():
                if group == stronger:
                    assert value <= numbers[row, weaker, label]


def test_the_text_repeats_the_tables():
    def at(number, dataset, row, column):
        found = [
            position.published
            for position in published(number).positions(dataset)
            if (position.row.name, position.column.name) == (row, column)
        ]
        assert len(found) == 1
        return found[0]

    with_pgd = "Ours + PGD"
    assert at(3, "cifar10", with_pgd, "White-box PGD") == 46.7  # abstract
    assert at(3, "cifar100", with_pgd, "White-box PGD") == 36.1
    assert at(3, "cifar10", with_pgd, "Clean") == 91.89  # Section 6.1
    assert at(3, "cifar10", with_pgd, "Black-box PGD") == 88.8
    row = "PGD eps 0.02"  # Section 6.2: gains of 20.6 and 41.4 %
    rivals = [at(5, "cifar10", row, column) for column in ("Ours + PGD", "Madry [17]*")]
    assert rivals[0] / rivals[1] == pytest.approx(1.206, abs=5e-4)
    row = "PGD eps 0.15"
    rivals = [at(6, "mnist", row, column) for column in ("Ours", "Ross [33]")]
    assert rivals[0] / rivals[1] == pytest.approx(1.414, abs=5e-4)
    assert at(7, "cifar100", "PGD eps 0.01", "Ours") == 38.9
    assert at(7, "cifar100", "PGD eps 0.01", "ADP [16]") == 18.3
    assert at(9, "cifar100", "Clean", "Triplet [24]") == 68.1  # Section 6.3
    assert at(9, "cifar100", "Clean", "Ours") == 71.9
