"""Two models on the same images under the same attacks: does one withstand more?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from robustbench_pcl.evaluation.statistics import Bools, mcnemar
from robustbench_pcl.report.formatting import per_cent
from robustbench_pcl.report.model_report import method, own_eps
from robustbench_pcl.report.model_section import Budget, unpacked
from robustbench_pcl.report.results import Record


class Pair(NamedTuple):
    """Two models under one attack, on the same images.

    Attributes:
        label: of the attack.
        accuracies: of the first and of the second model, per cent.
        only: images that only the first, and only the second has right.
        p: two-sided p value of the exact McNemar test.
    """

    label: str
    accuracies: tuple[float, float]
    only: tuple[int, int]
    p: float


class Comparison(NamedTuple):
    """Two models within one budget, on the same images.

    Attributes:
        first: the sections' model.
        second: the other.
        pairs: clean, under each attack that both have had, and under all of those together.
    """

    first: Budget
    second: Budget
    pairs: tuple[Pair, ...]

    @property
    def heading(self) -> str:
        """Models, data, budget and n."""
        names = f"{self.first.name} and {self.second.name} on {self.first.title}"
        return ", ".join([names, *self.first.conditions])


def comparisons(budgets: Sequence[Budget]) -> Iterator[Comparison]:
    """Models of different names, wherever both were attacked alike on the same images."""
    for first, second in combinations(budgets, 2):
        if first.model.target != second.model.target and _where(first) == _where(second):
            pairs = tuple(_pairs(first, second))
            if pairs:
                yield Comparison(first, second, pairs)


def _where(budget: Budget) -> tuple[object, ...]:
    """What has to be the same: images, by their digest and number, and budget."""
    return budget.model.data_digest, budget.model.n, budget.norm, budget.eps


def _pairs(first: Budget, second: Budget) -> Iterator[Pair]:
    """Clean, each attack that both have had, and what withstands all of these."""
    if first.clean is not None and second.clean is not None:
        yield _pair("Clean", unpacked(first.clean), unpacked(second.clean))
    ours, theirs = _comparable(first), _comparable(second)
    common = [key for key in ours if key in theirs]
    left, right = ([unpacked(own[key]) for key in common] for own in (ours, theirs))
    for key, one, other in zip(common, left, right, strict=True):
        yield _pair(key.label, one, other)
    if len(common) > 1:
        yield _pair("All of these", np.all(left, axis=0), np.all(right, axis=0))


class Attacked(NamedTuple):
    """What has to be the same for two models to have been attacked alike."""

    label: str
    method: tuple[str, int]
    mode: str


def _comparable(budget: Budget) -> dict[Attacked, Record]:
    """The attacks on a model's own gradients with the whole budget."""
    return {
        Attacked(each.label, method(each.record), each.record.mode): each.record
        for each in budget.attacks
        if each.record.white_box and own_eps(each.record) == budget.eps
    }


def _pair(label: str, first: Bools, second: Bools) -> Pair:
    return Pair(
        label=label,
        accuracies=(per_cent(float(first.mean())), per_cent(float(second.mean()))),
        only=(int((first & ~second).sum()), int((second & ~first).sum())),
        p=mcnemar(first, second),
    )
