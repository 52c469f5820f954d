"""Workers: places for each, the same bytes as one process, and what is killed is replaced."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from robustbench_pcl import FGSM, Workspace
from robustbench_pcl.environment import accelerators
from robustbench_pcl.pipeline.executors import Local
from robustbench_pcl.pipeline.executors.workers import Workers, places
from robustbench_pcl.pipeline.planner import plan
from robustbench_pcl.pipeline.runs import read_run
from robustbench_pcl.pipeline.tasks import Generate, Measure
from robustbench_pcl.progress import Progress

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc"
)


@pytest.mark.parametrize(
    ("workers", "cores", "cpus", "expected"),
    [
        (1, [0, 1, 2, 3], 0, [[0, 1, 2, 3]]),
        (2, [0, 1, 2, 3], 0, [[0, 1], [2, 3]]),
        (2, [4, 9], 0, [[4], [9]]),
        (3, [0, 1, 2, 3], 0, [[0], [1], [2]]),
        (3, [0, 1], 0, [[0], [1], [0]]),
        (2, [0, 1, 2, 3], 1, [[0], [1]]),
        (2, [0, 1], 2, [[0, 1], [0, 1]]),
        (1, [0, 1], 8, [[0, 1]]),
    ],
)
def test_cores_are_shared_evenly(workers, cores, cpus, expected):
    assert [own for own, _ in places(workers, cores, [], cpus)] == expected


def test_accelerators_are_taken_in_turn():
    found = [device for _, device in places(5, [0, 1], ["0", "1", "2"])]
    assert found == ["0", "1", "2", "0", "1"]
    assert [device for _, device in places(2, [0], [])] == [None, None]


def test_accelerators_have_the_names_that_the_environment_gives(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert accelerators() == []


class Spoken(Progress):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


def workers_of(home: Path) -> list[int]:
    """The worker processes on a home."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if "robustbench_pcl.pipeline.worker" in words[:6] and any(str(home) in w for w in words):
            found.append(int(process.name))
    return found


def contents(home: Path) -> dict[str, bytes]:
    """Weights and images by file name."""
    files = [*home.glob("checkpoints/*.safetensors"), *home.glob("results/embeddings/*")]
    return {path.name: path.read_bytes() for path in files}


@needs_proc
def test_two_workers_make_what_one_process_makes_though_one_is_killed(tiny, tmp_path):
    """One of them is killed with -9 as soon as it has begun."""
    recipes = [tiny(schedule=tiny().schedule.changed(epochs=1), seed=seed) for seed in (0, 1)]
    asked = [Measure(each, each, FGSM(eps=0.1), 16) for each in recipes]
    work = [(task, 1.0) for task in plan(asked)]
    here = Workspace(tmp_path / "here", device="cpu")
    Local().execute(work, here)
    there = Workspace(tmp_path / "there", device="cpu", progress=Spoken())
    killed = []

    def kill_one() -> None:
        folder = there.paths.jobs
        while not any(folder.glob("*/train-*.where")):
            time.sleep(0.01)
        began = next(folder.glob("*/train-*.where")).with_suffix("")
        record = read_run(began.parent)
        task = next(task for task in record.tasks if task.key == began.name)
        pids = workers_of(there.paths.root)
        killed.append(int(task.identity or pids[0]))
        os.kill(killed[0], signal.SIGKILL)

    hunter = threading.Thread(target=kill_one)
    hunter.start()
    run = Workers(workers=2).execute(work, there)
    hunter.join()

    assert [line for line in there.progress.lines if "sent again (1/3)" in line]
    assert contents(there.paths.root) == contents(here.paths.root)
    for task in asked:
        theirs, ours = there.find(task), here.find(task)
        assert (theirs.id, theirs.verdicts) == (ours.id, ours.verdicts)
        (own,) = [each for each in task.needs if isinstance(each, Generate)]
        assert there.find(own).summary.images_digest == here.find(own).summary.images_digest
    states = read_run(run.folder).tasks
    assert {task.state for task in states} == {"done"}
    assert len({task.identity for task in states} - {str(killed[0])}) == 2
    assert [path.name for path in run.folder.iterdir()] == ["run.json"]
    assert workers_of(there.paths.root) == []


DRIVER = """
import sys
from robustbench_pcl import Workspace
from robustbench_pcl.pipeline.executors.workers import Workers
from robustbench_pcl.pipeline.tasks import Train
from robustbench_pcl.recipes.load import load_recipe
recipe = load_recipe("softmax", "digits", "demo", set={"schedule.epochs": 5000})
Workers(workers=1).execute([(Train(recipe), 1.0)], Workspace(sys.argv[1], device="cpu"))
"""


@needs_proc
def test_a_worker_does_not_outlive_who_sends_its_tasks(tmp_path):
    with subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)]) as driver:
        end = time.monotonic() + 60
        while not workers_of(tmp_path) and time.monotonic() < end:
            time.sleep(0.05)
        (worker,) = workers_of(tmp_path)
        driver.kill()
    while worker in workers_of(tmp_path) and time.monotonic() < end:
        time.sleep(0.05)
    assert workers_of(tmp_path) == []
