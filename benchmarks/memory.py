"""Peak memory of an attack. ``python -m benchmarks.memory FOLDER N`` is one process of it."""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from benchmarks.images import first
from benchmarks.table import Figure, Row, at_most
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.recipes.load import load_recipe

FEW, MANY = 2_000, 10_000
TITLE = "peak memory of FGSM on 10,000 CIFAR-10 images, quick-scale network"
LARGEST, FLAT = at_most(2_048, " MiB"), at_most(1.05)


def peak(workspace: Workspace, rounds: int) -> Iterator[Row]:  # noqa: ARG001 - a peak is no time
    """The largest resident size with many images, and against that with few."""
    workspace.dataset("cifar10")  # says what is missing before another process does
    few, many = (_in_own_process(count) for count in (FEW, MANY))
    yield Row(TITLE, "", Figure(many, " MiB"), LARGEST)
    details = f"{many:,.0f} / {few:,.0f} MiB"
    yield Row("the same", f"{FEW:,} images", Figure(many / few), FLAT, details)


def _in_own_process(count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", __name__, folder, str(count)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(answer)


class ManyImages(Workspace):
    """A workspace for CIFAR-10 with so many test images, gone through again where they are few."""

    @cached_property
    def cifar10(self) -> Dataset:
        """The data set, the digest of its test images left as it was."""
        dataset = super().dataset("cifar10")
        return replace(dataset, test=first(dataset.test, MANY))

    def dataset(self, name: str) -> Dataset:  # noqa: ARG002 - there is one
        return self.cifar10


def _attack(folder: Path, count: int) -> None:
    """Attack in this process a network hardly trained: it takes as much memory as any."""
    short = {"train_images": 256, "schedule.epochs": 1}
    recipe = load_recipe("softmax", "cifar10", "quick", set=short)
    ManyImages(folder, device="cpu").adversarial_set(recipe, "fgsm", images=count)


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
    _attack(given.folder, given.count)
    print(_peak())


if __name__ == "__main__":
    main()
