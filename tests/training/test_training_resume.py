"""A training that is killed and started again ends with the very same bits."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.progress import Progress
from robustbench_pcl.store.tensors import load_description
from robustbench_pcl.training import loop
from robustbench_pcl.training.update import Update

# Trains, saving its state after every epoch, and hangs in the middle of the third one.
PROGRAM = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
import torch
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.progress import Progress
from robustbench_pcl.specs.recipe import Recipe
from robustbench_pcl.training import loop
from robustbench_pcl.training.update import Update

home, marker, recipe = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
recipe = Recipe.model_validate_json(recipe)
loop.SAVE_SECONDS = -1
torch.set_num_threads(1)

class Hang(Progress):
    @contextmanager
    def task(self, title, total):
        seen = 0
        def advance(done, note):
            nonlocal seen
            seen += done
            if seen > 2.5 * recipe.train_images:
                marker.touch()
                time.sleep(600)
        yield advance

Bench(home, device="cpu", progress=Hang()).train(recipe)
"""


class Spoken(Progress):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


def checkpoints(home):
    return sorted(path.name for path in (home / "checkpoints").glob("*.safetensors"))


@pytest.mark.parametrize("name", ["softmax", "ours", "ours-pgd"])
def test_a_killed_training_ends_with_the_same_bits(name, tiny, tiny_home, tmp_path, killed):
    recipe, home = tiny(name), tmp_path / "home"
    if recipe.start:  # only the recipe itself is to be interrupted
        (home / "checkpoints").mkdir(parents=True)
        for path in (tiny_home / "checkpoints").glob("*-softmax-*"):
            shutil.copy(path, home / "checkpoints")
    before = checkpoints(home)
    marker = tmp_path / "marker"
    killed(PROGRAM, marker, str(home), str(marker), recipe.model_dump_json())

    (partial,) = (home / "checkpoints" / "partial").iterdir()
    assert len(load_description(partial)["history"]) == 2
    assert checkpoints(home) == before

    progress = Spoken()
    resumed = Bench(home, device="cpu", progress=progress).train(recipe)
    assert progress.lines == [f"resuming {name} after epoch 2"]
    uninterrupted = Bench(tiny_home, device="cpu").checkpoint(recipe)
    arrays, expected = resumed.arrays(), uninterrupted.arrays()
    assert arrays.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(arrays[key], array, err_msg=key, strict=True)
    assert resumed.record == uninterrupted.record
    assert ("criterion.losses.3.prototypes" in arrays) is (name != "softmax")
    assert not partial.exists()


def test_an_interrupted_training_says_so_and_finishes(tmp_path, interrupted):
    program = "from robustbench_pcl.cli import main; main()"
    words = f"train digits --scale demo --epochs 6 --device cpu --home {tmp_path} --format json"
    command = [sys.executable, "-c", program, *words.split()]
    code, out, err = interrupted(command, tmp_path / "checkpoints" / "partial")
    assert code == 130
    assert out == ""
    *_, cause, cure = err.splitlines()
    assert cause == "pclbench: Stopped."
    assert "the same command goes on" in cure
    assert "Traceback" not in err
    assert checkpoints(tmp_path) == []

    code, out, err = run_to_the_end(command)
    assert code == 0, err
    (row,) = json.loads(out)
    assert [Path(row["checkpoint"]).name] == checkpoints(tmp_path)
    assert row["recipe"] == "softmax-e6"


def run_to_the_end(command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout, result.stderr


def test_ctrl_c_in_an_epoch_keeps_the_epochs_before(tiny, tiny_home, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1)
    recipe, step, calls = tiny("softmax"), Update.__call__, []

    def stop_at_the_tenth(*arguments):
        calls.append(arguments)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(Update, "__call__", stop_at_the_tenth)
    with pytest.raises(KeyboardInterrupt):
        Bench(tmp_path, device="cpu").train(recipe)
    checkpoint = Bench(tmp_path, device="cpu").train(recipe)
    assert len(calls) == 10 + 24  # eight batches an epoch: the second began again
    expected = Bench(tiny_home, device="cpu").checkpoint(recipe)
    assert checkpoint.record.weights == expected.record.weights
