"""What the paper claims of each recipe: its accuracy under white-box PGD."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from robustbench_pcl.paper.tables import published, published_numbers

CLAIMED_FOR = "pgd"
"""The attack whose published white-box number is the paper's claim."""


class Claim(NamedTuple):
    """What the paper prints for white-box PGD.

    Attributes:
        accuracy: per cent.
        table: the number of the table.
    """

    accuracy: float
    table: int


@cache
def claims() -> dict[tuple[str, str, float], Claim]:
    """What the paper prints for white-box PGD, by data set, recipe and eps; its first table's."""
    found: dict[tuple[str, str, float], Claim] = {}
    for number in published_numbers():
        for dataset in published(number).datasets:
            for position in published(number).positions(dataset):
                cell, value = position.cell, position.published
                attack = cell.attack
                if (
                    value is not None
                    and cell.quantity == "accuracy"
                    and cell.white_box
                    and attack is not None
                    and (attack.name, attack.loss) == (CLAIMED_FOR, None)
                    and attack.eps is not None
                ):
                    key = dataset, cell.target, round(attack.eps, 9)
                    found.setdefault(key, Claim(value, number))
    return found
