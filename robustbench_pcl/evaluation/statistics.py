"""What verdicts of several attacks, or of two models, on the same images say together.

Verdicts are booleans, one per image: True where it is classified as its label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import binomtest

Array = np.ndarray[Any, Any]


def mcnemar(first: Array, second: Array) -> float:
    """Two-sided p value of the exact McNemar test (McNemar 1947): do two models differ?

    Only images that one of them has right and the other wrong count. Were the models equally good,
    each would be right on half of those.

    Args:
        first: bool (N,), one model's verdicts.
        second: bool (N,), the other's on the same images.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def felled_alone(verdicts: Array) -> Array:
    """How many images each attack felled that no other did, int64 (A,).

    Args:
        verdicts: bool (A, N), one row per attack.
    """
    felled = ~verdicts
    return np.asarray((felled & (felled.sum(axis=0) == 1)).sum(axis=1))


def optimality(verdicts: Array) -> Array:
    """Each attack's share of the images that any of them felled, float64 (A,); NaN if none was.

    The images that withstand all attacks are the envelope: per image the best result there is
    (Cina et al. 2025, "AttackBench"; here at one budget).

    Args:
        verdicts: bool (A, N), one row per attack.
    """
    felled = ~verdicts
    every = int(felled.any(axis=0).sum())
    return felled.sum(axis=1) / every if every else np.full(len(verdicts), np.nan)


def chao1(verdicts: Array) -> float:
    """How many images that withstood every attack could be felled, as an estimate.

    The bias-corrected Chao1 (Chao 1984), f1 (f1 - 1) / (2 (f2 + 1)), for f1 images that exactly
    one attack felled and f2 that exactly two did. It takes attacks to find images independently,
    which kindred ones do not: those find the same images and miss the same, so that it is too low.
    Of few attacks it is rather too high: by A / (A - 1) where all are equally strong (for counts
    of attacks Chao 1987 has that factor). It may exceed the images that are left.

    Args:
        verdicts: bool (A, N), one row per attack, only images that are right when clean. Of one
            attack alone nothing follows, so A is at least 2.

    Raises:
        ValueError: there are fewer than two attacks.
    """
    if len(verdicts) < 2:
        raise ValueError("what attacks have missed follows from two attacks at least")
    times = (~verdicts).sum(axis=0)
    once, twice = int((times == 1).sum()), int((times == 2).sum())
    return once * (once - 1) / (2 * (twice + 1))
