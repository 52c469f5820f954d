"""Timing several ways of doing the same work in turn, so that a machine's drift hits them all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.table import Figure

Work = Callable[[], Any]


@dataclass(frozen=True)
class Comparison:
    """Several ways of doing the same work.

    Attributes:
        seconds: of each way, round by round.
        results: what each way returned when it warmed up.
    """

    seconds: Mapping[str, list[float]]
    results: Mapping[str, Any]

    def median(self, way: str) -> float:
        """Its seconds."""
        return statistics.median(self.seconds[way])

    def ratio(self, one: str, other: str) -> Figure:
        """How many times as long ``one`` takes: of medians, with the spread round by round."""
        pairs = zip(self.seconds[one], self.seconds[other], strict=True)
        ratios = [first / second for first, second in pairs]
        return Figure(self.median(one) / self.median(other), "x", (min(ratios), max(ratios)))

    def rates(self, one: str, other: str, images: int) -> str:
        """Images a second of both."""
        return " / ".join(f"{images / self.median(way):,.0f} images/s" for way in (one, other))

    @property
    def fastest(self) -> str:
        """The way with the shortest time met."""
        return min(self.seconds, key=lambda way: min(self.seconds[way]))


def compare(ways: Mapping[str, Work], rounds: int) -> Comparison:
    """Warm every way up, then run them in turn."""
    results = {name: work() for name, work in ways.items()}
    return Comparison(in_turn({name: timed(work) for name, work in ways.items()}, rounds), results)


def in_turn(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What every way measures of itself, round by round."""
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, measure in ways.items():
            measured[name].append(measure())
    return measured


def timed(work: Work) -> Callable[[], float]:
    """The work as a measurement: its seconds, the device's included."""

    def seconds() -> float:
        _wait()
        start = time.perf_counter()
        work()
        _wait()
        return time.perf_counter() - start

    return seconds


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
