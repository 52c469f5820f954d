"""Intervals and tests against SciPy's, and by hand."""

import numpy as np
import pytest
from scipy import stats

from robustbench_pcl.evaluation.statistics import (
    Verdicts,
    chao1,
    compare,
    felled_alone,
    interval_of_mean,
    mcnemar,
    optimality,
    significantly_best,
    welch,
)
from robustbench_pcl.store.rules import wilson


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


def pair(only_first, only_second, both=3, neither=2):
    """Two models' verdicts that differ on so many images."""
    first = [True] * only_first + [False] * only_second + [True] * both + [False] * neither
    second = [False] * only_first + [True] * only_second + [True] * both + [False] * neither
    return np.array(first, bool), np.array(second, bool)


@pytest.mark.parametrize(
    "split", [(0, 0), (1, 0), (5, 0), (6, 0), (9, 1), (1, 9), (4, 4), (30, 12), (4100, 3900)]
)
def test_mcnemar_is_the_binomial_test_of_the_images_that_differ(split):
    first, second = pair(*split)
    oracle = stats.binomtest(split[0], sum(split)).pvalue if any(split) else 1.0
    assert mcnemar(first, second) == pytest.approx(oracle, rel=1e-9)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_mcnemar_by_hand():
    assert mcnemar(*pair(5, 0)) == 2 / 32
    assert mcnemar(*pair(6, 0)) == 2 / 64
    assert mcnemar(*pair(2, 1)) == 1  # twice more than a half
    empty = np.zeros(0, bool)
    assert mcnemar(empty, empty) == 1


def test_welch():
    first, second = [80.0, 82.5, 81.0], [70.0, 75.5, 73.0, 71.0]
    oracle = stats.ttest_ind(first, second, equal_var=False).pvalue
    assert welch(first, second) == pytest.approx(oracle, rel=1e-9)
    assert welch(second, first) == welch(first, second)
    assert welch(first, [10.0]) == 1  # its spread is not known
    assert welch([80.0, 80.0], [10.0, 10.0]) == 1


def test_the_interval_of_a_mean():
    values = [80.0, 82.5, 81.0]
    oracle = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert interval_of_mean(values) == pytest.approx(oracle, rel=1e-9)


def verdicts(bits, data="images"):
    right = np.array([bit == "1" for bit in bits])
    return Verdicts(data, len(bits), np.packbits(right).tobytes().hex())


def test_verdicts_are_unpacked_as_they_are_stored():
    found = verdicts("1011000011")
    assert found.right.tolist() == [bit == "1" for bit in "1011000011"]
    assert found.accuracy == 0.5
    assert found.images == ("images", 10)


def test_the_best_differs_from_each_other_one():
    good, near, poor = verdicts("1" * 20), verdicts("1" * 15 + "0" * 5), verdicts("0" * 20)
    assert significantly_best([[poor], [good]]) == 1
    assert significantly_best([[good], [poor], [near]]) is None  # p = 2/32 against the second
    assert significantly_best([[good], [verdicts("1" * 14 + "0" * 6)], [poor]]) == 0  # p = 2/64
    assert significantly_best([[good]]) is None
    assert significantly_best([]) is None


def test_only_the_same_images_are_compared():
    good, other, fewer = verdicts("1" * 20), verdicts("0" * 20, "others"), verdicts("0" * 19)
    for compared in ([[good], [other]], [[good], [fewer]], [[good, good], [other, good]]):
        assert significantly_best(compared) is None
    with pytest.raises(ValueError, match="different images"):
        compare([good], [other])


def test_several_seeds_are_compared_by_their_accuracies():
    def seeds(*correct):
        return [verdicts("1" * count + "0" * (100 - count)) for count in correct]

    first, second = seeds(80, 81, 82), seeds(60, 63, 61)
    assert compare(first, second) == pytest.approx(welch([0.8, 0.81, 0.82], [0.6, 0.63, 0.61]))
    assert significantly_best([second, first]) == 1
    assert significantly_best([first, seeds(40, 95, 60)]) is None
    assert significantly_best([first, seeds(10)]) is None


def matrix_of(*rows):
    """One row per attack, one column per image: "." withstood, "x" was felled."""
    return np.array([[sign == "." for sign in row] for row in rows])


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
    matrix = matrix_of(*rows)
    assert felled_alone(matrix).tolist() == alone
    assert optimality(matrix).tolist() == pytest.approx(shares)
    assert chao1(matrix) == pytest.approx(missed)


def test_where_nothing_was_felled_no_attack_has_a_share():
    matrix = matrix_of("...", "...")
    assert np.isnan(optimality(matrix)).all()
    assert felled_alone(matrix).tolist() == [0, 0]
    assert chao1(matrix) == 0


def test_one_attack_alone_tells_nothing_of_what_it_missed():
    with pytest.raises(ValueError, match="two attacks"):
        chao1(matrix_of("xx.."))


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
