"""Timing two ways of doing the same work in turn, so that a machine's drift hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Our way of doing some work against another.

    Attributes:
        title: what is done.
        ours: does it our way.
        other: does it the other way.
        other_title: what the other way is.
    """

    title: str
    ours: Work
    other: Work
    other_title: str

    def row(self, rounds: int) -> dict[str, str]:
        """Run both in turn after one warm-up each; the ratio of medians, and its spread."""
        self.ours()
        self.other()
        pairs = [(_seconds(self.ours), _seconds(self.other)) for _ in range(rounds)]
        ratios = [ours / other for ours, other in pairs]
        ours, other = (statistics.median(column) for column in zip(*pairs, strict=True))
        return {
            "work": self.title,
            "against": self.other_title,
            "ratio of medians": f"{ours / other:.2f}",
            "pair by pair": f"{min(ratios):.2f} to {max(ratios):.2f}",
            "seconds": f"{ours:.2f} / {other:.2f}",
        }


def _seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
