"""Two processes and one workspace: who waits for whom, and what a killed one leaves."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from robustbench_pcl import FGSM, Workspace
from robustbench_pcl.pipeline import runs
from robustbench_pcl.pipeline.tasks import Generate, Measure
from robustbench_pcl.progress import Progress

# Trains, and hangs after the first epoch.
TRAINING = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
from robustbench_pcl import Workspace
from robustbench_pcl.progress import Progress
from robustbench_pcl.recipe import Recipe

class Hang(Progress):
    @contextmanager
    def task(self, title, total):
        def advance(done, words):
            if words:
                Path(sys.argv[2]).touch()
                time.sleep(600)
        yield advance

Workspace(sys.argv[1], device="cpu", progress=Hang()).train(
    Recipe.model_validate_json(sys.argv[3])
)
"""

# Begins a run, and is killed.
RUN = """
import os, signal, sys
from pathlib import Path
from robustbench_pcl.pipeline.runs import Run
run = Run.begin(Path(sys.argv[1]), [], sys.argv[2], {})
(run.folder / "train-1.json").touch()
os.kill(os.getpid(), signal.SIGKILL)
"""


class Spoken(Progress):
    """Keeps what is said, and tells that something was."""

    def __init__(self):
        self.lines, self.heard = [], threading.Event()

    def say(self, message):
        self.lines.append(message)
        self.heard.set()


def test_who_waits_takes_over_when_the_other_is_killed(tmp_path, tiny, tiny_home):
    home, marker = tmp_path / "home", tmp_path / "marker"
    recipe, progress = tiny(), Spoken()
    workspace, made = Workspace(home, device="cpu", progress=progress), []
    command = [sys.executable, "-c", TRAINING, str(home), str(marker), recipe.model_dump_json()]
    with subprocess.Popen(command) as other:
        while not marker.exists():
            assert other.poll() is None
            time.sleep(0.01)
        waiter = threading.Thread(target=lambda: made.append(workspace.train(recipe)))
        waiter.start()
        assert progress.heard.wait(60)
        assert made == []
        other.kill()
    waiter.join(60)
    (said,) = progress.lines
    assert said.startswith(f"waiting for train softmax on digits: process {other.pid} on ")
    assert said.endswith(" makes it")
    assert made[0].path.name in [path.name for path in (tiny_home / "checkpoints").iterdir()]
    assert list(workspace.paths.claims.iterdir()) == []


def test_one_set_is_one_claim_however_it_is_asked_for(tiny_workspace, tiny):
    everything = len(tiny_workspace.dataset("digits").test)
    images = tiny().changed(scale="paper")  # all of them, if no number is given
    asked = [Generate(images, FGSM(eps=0.1), number) for number in (None, everything, 10)]
    every, as_many, fewer = (task.claim(tiny_workspace) for task in asked)
    assert asked[0].key != asked[1].key
    assert every == as_many != fewer


def test_what_is_made_leaves_no_claim(tiny_workspace, tiny):
    tiny_workspace.make(Measure(tiny(), attack=FGSM(eps=0.1), images=10))
    assert list(tiny_workspace.paths.claims.iterdir()) == []


def test_what_would_go_on_is_kept_and_what_is_whole_is_tidied_up(tiny_workspace, tiny):
    """A process may be killed after its artefact took its place, and before it tidied up."""
    images = tiny_workspace.adversarial_set(tiny(), FGSM(eps=0.1), images=10)
    checkpoint = tiny_workspace.train(tiny())
    paths = tiny_workspace.paths
    paths.partial.mkdir(exist_ok=True)
    made, going = (paths.partial / f"{name}.safetensors" for name in (
        checkpoint.record.checkpoint, "0" * 12
    ))  # fmt: skip
    whole, parts = images.path.with_suffix(".parts"), paths.adversarial_sets / f"{'0' * 12}.parts"
    for path in (made, going):
        path.touch()
    for folder in (whole, parts):
        folder.mkdir()
        (folder / "part-000000.h5").touch()
    Workspace(paths.root)  # to read
    assert made.exists()
    Workspace(paths.root).clean()
    assert not made.exists()
    assert not whole.exists()
    assert going.exists()
    assert (parts / "part-000000.h5").exists()


@pytest.mark.parametrize(("executor", "left"), [("workers", 1), ("local", 1), ("slurm", 2)])
def test_of_a_run_that_was_killed_the_record_stays(tmp_path, executor, left):
    """And on a cluster all of it: its jobs may go on."""
    command = [sys.executable, "-c", RUN, str(tmp_path), executor]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.iterdir())) == 2
    runs.tidy(tmp_path)
    assert len(list(folder.iterdir())) == left
    assert runs.read_run(folder).alive is False
