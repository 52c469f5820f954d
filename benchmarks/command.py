"""``pclbench attack`` against the engine's call alone, each cold in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.interleaved import Comparison, in_turn
from benchmarks.table import Figure, Row, at_most
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.specs.recipe import Recipe


def overhead(recipe: Recipe, steps: int, title: str, bench: Bench, rounds: int) -> Iterator[Row]:
    """The share by which the command takes longer than the attack in it."""
    checkpoint = bench.train(recipe).path
    ways = {
        which: partial(_in_own_process, which, checkpoint, bench.device_name, steps)
        for which in ("command", "engine")
    }
    runs = Comparison(in_turn(ways, rounds), {})
    ratio = runs.ratio("command", "engine")
    low, high = ratio.spread or (ratio.value, ratio.value)
    figure = Figure(100 * (ratio.value - 1), " %", (100 * (low - 1), 100 * (high - 1)))
    details = f"{runs.median('command'):.2f} / {runs.median('engine'):.2f} s"
    yield Row(title, "the engine's call", figure, at_most(5, " %"), details)


def _in_own_process(which: str, checkpoint: Path, device: str, steps: int) -> float:
    given = [which, str(checkpoint), device, str(steps)]
    command = [sys.executable, "-m", "benchmarks.cold", *given]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
