"""``--workers 2`` against one worker with as many threads each, and how long a plan takes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.interleaved import Comparison, in_turn
from benchmarks.table import Figure, Row, at_least, at_most
from robustbench_pcl.pipeline.workspace import Workspace

TITLE = "a suite of 8 trainings and 24 measurements with 2 workers of 1 thread"
PLAN = "planning 10,000 measurements"
JOBS = 10_000
SUITE = """
datasets = ["digits"]
targets = ["softmax"]
scale = "demo"
seed = [0, 1, 2, 3, 4, 5, 6, 7]
[[attack]]
name = "pgd"
mode = "exact"
steps = 500
[[attack]]
name = "fgsm"
"""


def speedup(workspace: Workspace, rounds: int) -> Iterator[Row]:
    """How many times as fast as one after the other, everything included."""
    workspace.dataset("digits")
    ways = {f"{count} workers": partial(_run, count) for count in (1, 2)}
    runs = Comparison(in_turn(ways, rounds), {})
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    details = f"{runs.median('1 workers'):.1f} / {runs.median('2 workers'):.1f} s {load}"
    yield Row(TITLE, "1 worker", runs.ratio("1 workers", "2 workers"), at_least(1.7), details)


def planning(workspace: Workspace, rounds: int) -> Iterator[Row]:  # noqa: ARG001 - it is a bound
    """Processor seconds and peak memory of a dry run of which nothing is stored."""
    workspace.dataset("digits")
    budgets = (0.3 * (number + 1) / JOBS for number in range(JOBS))
    attacks = "".join(f'[[attack]]\nname = "pgd"\neps = {eps}\n' for eps in budgets)
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "suite.toml"
        suite.write_text(f'datasets = ["digits"]\ntargets = ["ours"]\n{attacks}', "utf-8")
        command = [sys.executable, "-m", "benchmarks.planning", str(suite), folder]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, peak = map(float, answer.split())
    yield Row(PLAN, "", Figure(seconds, " s"), at_most(5, " s"))
    yield Row("the same: memory", "", Figure(peak, " MiB"), at_most(500, " MiB"))


def _run(workers: int) -> float:
    """Seconds of the whole suite in a new home."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "suite.toml"
        suite.write_text(SUITE, encoding="utf-8")
        words = ["run", "--suite", str(suite), "--workers", str(workers), "--device", "cpu"]
        command = [sys.executable, "-m", "robustbench_pcl", *words, "--home", folder]
        start = time.perf_counter()
        own = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, capture_output=True, env=own)
        return time.perf_counter() - start
