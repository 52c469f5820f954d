"""A training that is interrupted and started again ends with the very same bits."""

import contextlib

import numpy as np
import pytest
import torch

from robustbench_pcl.progress import Progress
from robustbench_pcl.recipe import Schedule
from robustbench_pcl.store.atomic import write_bytes
from robustbench_pcl.store.checkpoints import (
    load_arrays,
    load_description,
    save_arrays,
    save_state,
)
from robustbench_pcl.training import step
from robustbench_pcl.training.build import arrays_of, restore
from robustbench_pcl.training.trainer import Run

# Trains, saving its state after every epoch, and hangs in the middle of the third one.
PROGRAM = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
import torch
from robustbench_pcl.data.loader import load
from robustbench_pcl.progress import Progress
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.store.checkpoints import open_checkpoint
from robustbench_pcl.training.build import restore
from robustbench_pcl.training.trainer import Run

partial, marker, recipe, start = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:]
recipe = Recipe.model_validate_json(recipe)
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

run = Run(recipe, load("digits", None), torch.device("cpu"), partial, Hang(), save_seconds=-1)
run.execute(restore(open_checkpoint(Path(start[0]))) if start else None)
"""


class Stop(Progress):
    """Interrupts a run after so many images, as Ctrl-C does."""

    def __init__(self, images):
        self.left = images

    @contextlib.contextmanager
    def task(self, title, total):
        def advance(done, note):
            self.left -= done
            if self.left < 0:
                raise KeyboardInterrupt

        yield advance


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


@pytest.mark.parametrize(
    "name",
    [
        "softmax",
        pytest.param("ours", marks=pytest.mark.slow),
        pytest.param("ours-pgd", marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_ends_with_the_same_bits(name, tiny, trained, run, killed):
    recipe = tiny(name)
    start = [trained("softmax")] if recipe.start else []
    resumed = run(recipe)
    marker = resumed.partial.with_name("marker")
    paths = [str(checkpoint.path) for checkpoint in start]
    killed(PROGRAM, marker, str(resumed.partial), str(marker), recipe.model_dump_json(), *paths)
    assert len(load_description(resumed.partial)["history"]) == 2

    state = resumed.execute(*(restore(checkpoint) for checkpoint in start))
    assert resumed.progress.lines == [f"resuming {name} after epoch 2"]
    assert_same_bits(arrays_of(state.model), load_arrays(trained(name).path))
    assert [entry["epoch"] for entry in state.history] == [1, 2, 3, 4]


@pytest.mark.parametrize(("precision", "save_seconds"), [("mixed", -1), ("float32", 600.0)])
def test_an_interrupted_training_ends_with_the_same_bits(
    *, precision, save_seconds, tiny, run, tmp_path, monkeypatch
):
    """The last whole epoch is kept, whether its state was written by then or not."""
    monkeypatch.setattr(step, "computes_bfloat16", lambda device: True)
    recipe = tiny("ours-pgd", start=None)
    recipe = recipe.changed(schedule=recipe.schedule.changed(precision=precision, epochs=3))
    whole = run(recipe, partial=tmp_path / "never").execute()
    stop = Stop(1.5 * recipe.train_images)
    interrupted = run(recipe, progress=stop, save_seconds=save_seconds)
    with pytest.raises(KeyboardInterrupt) as raised:
        interrupted.execute()
    assert raised.value.__notes__ == ["ours-pgd is kept after epoch 1 of 3"]
    resumed = run(recipe)
    assert_same_bits(arrays_of(resumed.execute().model), arrays_of(whole.model))
    assert resumed.progress.lines == ["resuming ours-pgd after epoch 1"]
    assert not (tmp_path / "never").exists()


def test_the_state_is_not_written_more_often_than_it_is_asked_to(tiny, run):
    made = run(tiny(), save_seconds=600.0)
    assert isinstance(made, Run)
    made.execute()
    assert not made.partial.exists()
    assert torch.get_num_threads() == 1


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def with_other_history(path):
    content = path.read_bytes()
    assert content.count(b'\\"epoch\\": 1,') == 1
    path.write_bytes(content.replace(b'\\"epoch\\": 1,', b'\\"epoch\\": 2,'))


DAMAGES = {
    "a page": (lambda path, arrays: write_bytes(path, b"<html>"), "a web page"),
    "empty": (lambda path, arrays: write_bytes(path, b""), "truncated or damaged"),
    "another model": (lambda path, arrays: save_arrays(path, {}, {"history": []}), "another model"),
    "no history": (lambda path, arrays: save_arrays(path, arrays, {}), "not the state of this"),
    "another training": (
        lambda path, arrays: save_state(path, "0123456789ab", arrays, []),
        "not the state of this",
    ),
    "other weights": (lambda path, arrays: flipped(path), "its numbers are not the ones"),
    "other history": (lambda path, arrays: with_other_history(path), "its header is not the one"),
}


@pytest.mark.parametrize("which", DAMAGES)
def test_a_damaged_state_is_set_aside_and_the_training_starts_anew(which, run, tiny):
    damage, words = DAMAGES[which]
    made = run(tiny(train_images=64, schedule=Schedule(epochs=1, batch_size=32)))
    anew = arrays_of(made.execute().model)
    arrays = {f"model.{name}": array for name, array in anew.items()}
    identity = made.recipe.id(made.dataset.train.digest)
    save_state(made.partial, identity, arrays, [{"epoch": 1, "loss": 0.5}])
    damage(made.partial, arrays)
    content = made.partial.read_bytes()
    state = made.execute()
    aside = made.partial.with_name(f"{made.partial.name}.bad")
    assert aside.read_bytes() == content
    (said,) = made.progress.lines
    assert words in said
    assert str(aside) in said
    assert_same_bits(arrays_of(state.model), anew)


def test_a_state_from_before_there_were_digests_is_believed(run, tiny, trained):
    made, arrays = run(tiny()), load_arrays(trained("softmax").path)
    history = [{"epoch": number + 1, "loss": 0.5} for number in range(4)]
    arrays = {f"model.{name}": array for name, array in arrays.items()}
    save_arrays(made.partial, arrays, {"history": history})
    assert made.execute().history == history
    assert made.progress.lines == ["resuming softmax after epoch 4"]
