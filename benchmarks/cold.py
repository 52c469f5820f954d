"""One timing in a fresh process that has imported torch and torchvision and nothing of pclbench.

``python -m benchmarks.cold {command,evaluate} CHECKPOINT DEVICE STEPS`` prints seconds.
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
    """``pclbench attack`` as typed, all of its imports but torch's included.

    Raises:
        SystemExit: it failed, and has said why.
    """
    words = ["attack", str(checkpoint), "--attack", "pgd", "--set", f"steps={steps}"]

    def run() -> None:
        from robustbench_pcl.cli.app import app

        options = ["--images", str(IMAGES), "--device", device, "--home", folder]
        try:
            app([*words, *options])
        except SystemExit as ended:
            if ended.code:
                raise

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return timed(run)()


def attack_alone(checkpoint: Path, device: str, steps: int) -> float:
    """The attack alone, with all that it needs in memory."""
    from benchmarks.images import test_images
    from robustbench_pcl.attacks.gradient_descent import PGD
    from robustbench_pcl.data.datasets import dataset_spec
    from robustbench_pcl.evaluation.evaluate import evaluate
    from robustbench_pcl.pipeline.workspace import Workspace

    workspace = Workspace(device=device)
    recipe = workspace.open(checkpoint)
    model = workspace.model(recipe)
    images, labels = test_images(workspace, recipe.dataset, IMAGES)
    attack = PGD(eps=dataset_spec(recipe.dataset).eps, steps=steps)
    return timed(partial(evaluate, model, images, labels, attack))()


def main() -> None:
    """Print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=("command", "evaluate"))
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("device")
    parser.add_argument("steps", type=int)
    given = parser.parse_args()
    measure = {"command": command, "evaluate": attack_alone}[given.which]
    print(measure(given.checkpoint, given.device, given.steps))


if __name__ == "__main__":
    main()
