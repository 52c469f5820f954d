"""Intervals against SciPy's."""

import pytest
from scipy import stats

from robustbench_pcl.store.records import wilson


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
