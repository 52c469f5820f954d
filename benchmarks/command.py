"""``pclbench attack`` against ``evaluate`` alone, each cold in a process of its own.

Modules are read as bytecode, as pip leaves them when it installs a package.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.interleaved import Comparison, in_turn
from benchmarks.table import Figure, Row, at_most
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.recipe import Recipe

NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""With it, every process would compile every module of pclbench anew, for 0.1 s."""


def overhead(
    recipe: Recipe, steps: int, title: str, workspace: Workspace, rounds: int
) -> Iterator[Row]:
    """The share by which the command takes longer than the attack in it."""
    checkpoint = workspace.train(recipe).path
    ways = {
        which: partial(_in_own_process, which, checkpoint, workspace.device_name, steps)
        for which in ("command", "evaluate")
    }
    _in_own_process("command", checkpoint, workspace.device_name, steps=1)  # writes bytecode
    runs = Comparison(in_turn(ways, rounds), {})
    ratio = runs.ratio("command", "evaluate")
    low, high = ratio.spread or (ratio.value, ratio.value)
    figure = Figure(100 * (ratio.value - 1), " %", (100 * (low - 1), 100 * (high - 1)))
    details = f"{runs.median('command'):.2f} / {runs.median('evaluate'):.2f} s"
    yield Row(title, "`evaluate` alone", figure, at_most(8, " %"), details)


def _in_own_process(which: str, checkpoint: Path, device: str, steps: int) -> float:
    given = [which, str(checkpoint), device, str(steps)]
    command = [sys.executable, "-m", "benchmarks.cold", *given]
    own = {name: value for name, value in os.environ.items() if name != NO_BYTECODE}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=own)
    return float(done.stdout)
