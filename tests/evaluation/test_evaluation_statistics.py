"""Intervals against SciPy's; what verdicts say together against counts made by hand."""

from math import comb

import numpy as np
import pytest
from scipy import stats

from robustbench_pcl.evaluation.statistics import chao1, felled_alone, mcnemar, optimality
from robustbench_pcl.store.records import wilson


def verdicts(*rows):
    """One row per attack, one column per image: "." withstood, "x" was felled."""
    return np.array([[sign == "." for sign in row] for row in rows])


@pytest.mark.parametrize(
    ("correct", "n"),
    [(0, 1), (1, 1), (0, 10), (10, 10), (1, 200), (137, 200), (5000, 10_000), (9999, 10_000)],
)
def test_wilson(correct, n):
    oracle = stats.binomtest(correct, n).proportion_ci(0.95, method="wilson")
    low, high = wilson(correct, n)
    assert (low, high) == pytest.approx((oracle.low, oracle.high), abs=1e-12)
    assert 0 <= low <= correct / n <= high + 1e-12 <= 1 + 1e-12


def test_wilson_at_another_level():
    z = stats.norm.ppf(0.995)
    oracle = stats.binomtest(7, 30).proportion_ci(0.99, method="wilson")
    assert wilson(7, 30, z) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


MATRICES = (
    # attacks; felled alone by each; share of the envelope's felled; estimated to be missed
    (("xx..", "xx.."), [0, 0], [1, 1], 0),
    (("xx...", "..xx."), [2, 2], [1 / 2, 1 / 2], 4 * 3 / 2),
    (("xxx..", "..xx."), [2, 1], [3 / 4, 2 / 4], 3 * 2 / (2 * 2)),
    (("xxxx", "x...", "xx.."), [2, 0, 0], [1, 1 / 4, 2 / 4], 2 * 1 / (2 * 2)),
    (("....", "...x"), [0, 1], [0, 1], 0),
)


@pytest.mark.parametrize(("rows", "alone", "shares", "missed"), MATRICES)
def test_what_attacks_say_together(rows, alone, shares, missed):
    matrix = verdicts(*rows)
    assert felled_alone(matrix).tolist() == alone
    assert optimality(matrix).tolist() == pytest.approx(shares)
    assert chao1(matrix) == pytest.approx(missed)


def test_where_nothing_was_felled_no_attack_has_a_share():
    matrix = verdicts("...", "...")
    assert np.isnan(optimality(matrix)).all()
    assert felled_alone(matrix).tolist() == [0, 0]
    assert chao1(matrix) == 0


def test_one_attack_alone_tells_nothing_of_what_it_missed():
    with pytest.raises(ValueError, match="two attacks"):
        chao1(verdicts("xx.."))


@pytest.mark.parametrize("chances", [(0.5, 0.5), (0.5, 0.5, 0.5), (0.2,) * 4, (0.2, 0.3) * 4])
def test_the_estimate_for_independent_attacks_is_what_they_missed(chances):
    # Of 1000 fellable images each attack fells each with its own chance, whatever the others do.
    draws, count = np.random.default_rng(0), len(chances)
    estimates, missed = [], []
    for _ in range(200):
        matrix = draws.random((count, 1000)) >= np.array(chances)[:, None]
        estimates.append(chao1(np.concatenate([matrix, np.ones((count, 500), dtype=bool)], axis=1)))
        missed.append(matrix.all(axis=0).sum())
    expected = np.mean(missed) * count / (count - 1)
    assert np.mean(estimates) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(0, 0), (1, 0), (3, 3), (0, 6), (8, 1), (20, 35)]
)
def test_mcnemar_is_the_exact_test_of_the_images_on_which_two_models_differ(
    only_first, only_second
):
    both, neither = 11, 7
    first = np.repeat([True, True, False, False], [both, only_first, only_second, neither])
    second = np.repeat([True, False, True, False], [both, only_first, only_second, neither])
    n, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(comb(n, k) for k in range(fewer + 1)) / 2**n
    assert mcnemar(first, second) == pytest.approx(min(1, 2 * tail))
    assert mcnemar(second, first) == pytest.approx(min(1, 2 * tail))
