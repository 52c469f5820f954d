"""Peak memory of crafting. ``python -m benchmarks.memory FOLDER N`` is one process of it."""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from benchmarks.images import first
from benchmarks.table import Figure, Row, at_most
from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.recipes.named import named_recipe
from robustbench_pcl.specs.base import Part

FEW, MANY = 2_000, 10_000
TITLE = "peak memory of FGSM on 10,000 CIFAR-10 images, quick-scale network"
LARGEST, FLAT = at_most(2_048, " MiB"), at_most(1.05)


def peak(bench: Bench, rounds: int) -> Iterator[Row]:  # noqa: ARG001 - a peak is no time
    """The largest resident size with many images, and against that with few."""
    bench.dataset("cifar10")  # says what is missing before another process does
    few, many = (_in_own_process(count) for count in (FEW, MANY))
    yield Row(TITLE, "", Figure(many, " MiB"), LARGEST)
    details = f"{many:,.0f} / {few:,.0f} MiB"
    yield Row("the same", f"{FEW:,} images", Figure(many / few), FLAT, details)


def _in_own_process(count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", __name__, folder, str(count)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(answer)


def _craft(folder: Path, count: int) -> None:
    """Craft in this process, on a network hardly trained: it takes as much memory as any."""
    bench = Bench(folder, device="cpu", images=count)
    dataset = bench.dataset("cifar10")
    bench.dataset = lru_cache(lambda _: replace(dataset, test=first(dataset.test, MANY)))
    recipe = named_recipe("softmax", "cifar10", "quick")
    once = recipe.schedule.model_copy(update={"epochs": 1})
    bench.craft(
        recipe.model_copy(update={"train_images": 256, "schedule": once}),
        Part(name="fgsm", parameters={"eps": dataset_spec("cifar10").eps}),
    )


def _peak() -> float:
    """Of this program, in MiB; what ``getrusage`` says begins with its parent's size."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    return int(found.group(1)) / 1024 if found else 0.0


def main() -> None:
    """Print this process's peak in MiB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    given = parser.parse_args()
    _craft(given.folder, given.count)
    print(_peak())


if __name__ == "__main__":
    main()
