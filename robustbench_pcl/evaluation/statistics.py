"""What verdicts on the same images say together, and which differences are more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustbench_pcl.lazy import LazyModule

if TYPE_CHECKING:
    from scipy import special
else:
    special = LazyModule("scipy.special")

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

LEVEL = 0.05
"""A difference that chance makes less often than this is significant."""


@dataclass(frozen=True)
class Verdicts:
    """Which images one model classifies as their label.

    Attributes:
        data: digest of the clean images and labels behind them.
        n: images, the first ones.
        bits: one bit per image in order, 1 for correct, packed, as hexadecimal.
    """

    data: str
    n: int
    bits: str

    @property
    def images(self) -> tuple[str, int]:
        """The same for verdicts that can be compared image by image."""
        return self.data, self.n

    @property
    def right(self) -> Bools:
        """Boolean (n,): whether the class is the label."""
        packed = np.frombuffer(bytes.fromhex(self.bits), dtype=np.uint8)
        return np.unpackbits(packed, count=self.n).astype(np.bool_)

    @property
    def accuracy(self) -> float:
        """The share of images classified as their label."""
        return int(self.bits, 16).bit_count() / self.n


def mcnemar(first: Bools, second: Bools) -> float:
    """Exact two-sided p value of two models' verdicts on the same images (McNemar 1947).

    Only images that one of the two gets right say which is better. If neither is, each such image
    is either's with probability 1/2, so that their split is binomial.

    Args:
        first: boolean (n,), which images one model classifies as their label.
        second: the same of the other model, on the same images in the same order.

    Returns:
        How often chance alone makes a split at least as uneven; 1 where they never differ.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    ways = total = 1
    for k in range(fewer):
        ways = ways * (discordant - k) // (k + 1)
        total += ways
    return min(1.0, float(2 * total / 2**discordant))


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p value of two means with unequal variances (Welch 1947).

    Args:
        first: one value for each training of one recipe.
        second: the same of the other recipe.

    Returns:
        1 where a recipe was trained once, or where no training differs from another of its
        recipe: then nothing is known about chance.
    """
    if min(len(first), len(second)) < 2:
        return 1.0
    errors = [variance(values) / len(values) for values in (first, second)]
    total = sum(errors)
    if not total:
        return 1.0
    t = abs(fmean(first) - fmean(second)) / math.sqrt(total)
    shares = zip(errors, (first, second), strict=True)
    freedom = total**2 / sum(error**2 / (len(values) - 1) for error, values in shares)
    return float(2 * special.stdtr(freedom, -t))


def compare(first: Sequence[Verdicts], second: Sequence[Verdicts]) -> float:
    """Two-sided p value of two recipes' accuracies on the same images.

    Recipes that were trained once are compared image by image (:func:`mcnemar`), others by the
    accuracies of their trainings (:func:`welch`).

    Args:
        first: one recipe's verdicts, one for each seed.
        second: the other's.

    Raises:
        ValueError: they are not all on the same images.
    """
    if len({verdicts.images for verdicts in (*first, *second)}) != 1:
        raise ValueError("verdicts on different images cannot be compared")
    if len(first) == len(second) == 1:
        return mcnemar(first[0].right, second[0].right)
    return welch(*([verdicts.accuracy for verdicts in each] for each in (first, second)))


def significantly_best(compared: Sequence[Sequence[Verdicts]]) -> int | None:
    """Which recipe is significantly more accurate than each of the others.

    Args:
        compared: each recipe's verdicts, one for each seed, at least one.

    Returns:
        Its place; None where there is no such recipe, where there is but one, and where not all
        verdicts are on the same images.
    """
    if len(compared) < 2 or len({each.images for seeds in compared for each in seeds}) > 1:
        return None
    means = [fmean(each.accuracy for each in seeds) for seeds in compared]
    best = means.index(max(means))
    others = (seeds for place, seeds in enumerate(compared) if place != best)
    return best if all(compare(compared[best], other) < LEVEL for other in others) else None


def interval_of_mean(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a mean over trainings (Student 1908), in the unit of the values.

    Args:
        values: at least two.
    """
    quantile = float(special.stdtrit(len(values) - 1, 1 - LEVEL / 2))
    half = quantile * math.sqrt(variance(values) / len(values))
    return fmean(values) - half, fmean(values) + half


def felled_alone(verdicts: Bools) -> npt.NDArray[Any]:
    """How many images each attack felled that no other did, int64 (A,).

    Args:
        verdicts: bool (A, N), one row per attack.
    """
    felled = ~verdicts
    return np.asarray((felled & (felled.sum(axis=0) == 1)).sum(axis=1))


def optimality(verdicts: Bools) -> Floats:
    """Each attack's share of the images that any of them felled, float64 (A,); NaN if none was.

    The images that withstand all attacks are the envelope: per image the best result there is
    (Cina et al. 2025, "AttackBench"; here at one budget).

    Args:
        verdicts: bool (A, N), one row per attack.
    """
    felled = ~verdicts
    every = int(felled.any(axis=0).sum())
    return felled.sum(axis=1) / every if every else np.full(len(verdicts), np.nan)


def chao1(verdicts: Bools) -> float:
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
