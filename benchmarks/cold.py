"""One timing in a fresh process that has imported torch and torchvision and nothing of pclbench.

``python -m benchmarks.cold {command,engine} CHECKPOINT DEVICE STEPS`` prints seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from functools import partial
from pathlib import Path

import torchvision  # noqa: F401 - what it imports of torch takes longer than all else here

from benchmarks.interleaved import timed

IMAGES = 1_000


def command(checkpoint: Path, device: str, steps: int) -> float:
    """``pclbench attack`` as typed, all of its imports but torch's included."""
    dataset = checkpoint.name.partition("-")[0]
    words = f"attack {checkpoint} --dataset {dataset} --attack pgd --set steps={steps}"

    def run() -> None:
        from robustbench_pcl.cli import app

        options = ["--images", str(IMAGES), "--device", device, "--home", folder]
        app([*words.split(), *options], standalone_mode=False)

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return timed(run)()


def engine(checkpoint: Path, device: str, steps: int) -> float:
    """The attack alone, with all that it needs in memory."""
    from benchmarks.images import test_images
    from robustbench_pcl.attacks import PGD
    from robustbench_pcl.data.catalogue import dataset_spec
    from robustbench_pcl.evaluation.robustness import robustness
    from robustbench_pcl.jobs.bench import Bench

    bench = Bench(device=device)
    recipe = bench.open(checkpoint)
    model = bench.model(recipe)
    images, labels = test_images(bench, recipe.dataset, IMAGES)
    attack = PGD(eps=dataset_spec(recipe.dataset).eps, steps=steps)
    return timed(partial(robustness, model, attack, images, labels))()


def main() -> None:
    """Print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=("command", "engine"))
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("device")
    parser.add_argument("steps", type=int)
    given = parser.parse_args()
    measure = {"command": command, "engine": engine}[given.which]
    print(measure(given.checkpoint, given.device, given.steps))


if __name__ == "__main__":
    main()
