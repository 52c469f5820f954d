"""The executors: the same artefacts wherever jobs run, and whatever is killed on the way."""

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from robustbench_pcl import FGSM, Workspace, plugins
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline import scheduler, worker
from robustbench_pcl.pipeline.executors import EXECUTORS, Local, slurm
from robustbench_pcl.pipeline.executors.slurm import Slurm
from robustbench_pcl.pipeline.planner import plan
from robustbench_pcl.pipeline.runs import read_run
from robustbench_pcl.pipeline.tasks import Measure, Train
from robustbench_pcl.progress import Progress


class Spoken(Progress):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


def kill_a_worker(home: Path, killed: list[str]) -> None:
    """Wait for the first worker process on a home, and kill it for real."""
    end = time.monotonic() + 120
    while not killed and time.monotonic() < end:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_text().split("\0")
            except OSError:
                continue
            own = [word for word in words[4:] if str(home) in word]
            if "robustbench_pcl.pipeline.worker" in words[:5] and own:
                os.kill(int(process.name), signal.SIGKILL)
                killed.append(own[0])
                break
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")
def test_a_killed_task_is_sent_again_and_all_is_as_if_done_here(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "PATIENCE_SECONDS", 0.5)
    recipe = tiny(schedule=tiny().schedule.changed(epochs=2))
    measure = Measure(recipe, recipe, FGSM(eps=0.1), 16)
    work = [(task, 1.0) for task in plan([measure])]
    here = Workspace(tmp_path / "here", device="cpu")
    Local().execute(work, here)

    there = Workspace(tmp_path / "there", device="cpu", progress=Spoken())
    killed = []
    hunter = threading.Thread(target=kill_a_worker, args=(there.paths.root, killed))
    hunter.start()
    try:
        Slurm(cluster="local").execute(work, there)
    finally:
        hunter.join()

    assert there.progress.lines == ["train softmax on digits: failed, sent again (1/3)"]
    assert there.checkpoint(recipe).record.weights == here.checkpoint(recipe).record.weights
    theirs, ours = there.find(measure), here.find(measure)
    assert (theirs.id, theirs.correct) == (ours.id, ours.correct)
    (run,) = there.paths.jobs.iterdir()
    assert [path.name for path in run.iterdir()] == ["run.json"]
    assert {task.state for task in read_run(run).tasks} == {"done"}


def test_the_last_words_of_a_failing_task_are_reported(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(scheduler, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(scheduler, "ATTEMPTS", 1)
    workspace = Workspace(tmp_path / "home", device="cpu")
    workspace.paths.checkpoints.mkdir(parents=True)
    workspace.paths.partial.write_text("a file where a folder should be")
    with pytest.raises(UserError) as caught:
        Slurm(cluster="local").execute([(Train(tiny()), 1.0)], workspace)
    assert "train softmax on digits: pclbench: Cannot write" in caught.value.cause
    logs = re.search(r"The logs are in (\S+);", caught.value.cure).group(1)
    assert "Cannot write" in next(Path(logs).glob("*.log")).read_text()


@pytest.mark.parametrize("name", EXECUTORS)
def test_every_executor_has_defaults_and_says_what_it_takes(name):
    kind = EXECUTORS[name]
    assert kind.__doc__
    assert kind()
    explained = "".join(base.__doc__ or "" for base in kind.__mro__)
    for key in kind.model_fields:
        assert f"\n        {key}: " in explained


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("slurm", {"partitoin": "gpu"}),
        ("slurm", {"gpus": "one"}),
        ("slurm", {"minutes": 0}),
        ("ray", {"partition": "gpu"}),
        ("local", {"gpus": 1}),
    ],
)
def test_options_that_make_no_sense(name, options):
    with pytest.raises(ValidationError):
        EXECUTORS[name](**options)


@pytest.mark.parametrize(("name", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_package_that_is_missing(name, package, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    workspace = Workspace(tmp_path, device="cpu")
    with pytest.raises(UserError) as caught:
        EXECUTORS[name]().execute([(Train(tiny()), 1.0)], workspace)
    assert caught.value.cure == f"pip install 'pclbench[{name}]'"


def test_a_machine_without_slurm(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    workspace = Workspace(tmp_path, device="cpu")
    with pytest.raises(UserError, match="no Slurm on this machine"):
        Slurm().execute([(Train(tiny()), 1.0)], workspace)


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """A stand-in for squeue: what it lists, or None for one that does not answer."""
    monkeypatch.setattr(slurm, "ASK_SECONDS", 0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def answer(*rows):
        lines = "exit 1" if rows == (None,) else "\n".join(f"echo '{row}'" for row in rows)
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / "squeue").chmod(0o755)

    return answer


def test_states_of_jobs(squeue):
    queue, sent = slurm.Queue(), time.monotonic()
    squeue("11   RUNNING   0", "12   PENDING   0", "13   PENDING   1", "14   RUNNING   1")
    states = [queue.state(job, sent) for job in ("11", "12", "13", "14", "15")]
    assert states == ["RUNNING", "PENDING", "REQUEUED", "RUNNING", ""]
    squeue(None)
    assert queue.state("11", sent) == "RUNNING", "no answer is no news"


def test_a_job_sent_after_the_last_question_is_in_the_queue(squeue, monkeypatch):
    queue = slurm.Queue()
    squeue("11   RUNNING   0")
    assert queue.state("11", 0.0) == "RUNNING"
    monkeypatch.setattr(slurm, "ASK_SECONDS", 60)
    assert queue.state("12", 0.0) == ""
    assert queue.state("12", time.monotonic()) == "PENDING"


@pytest.mark.parametrize(
    ("row", "over", "why"),
    [
        ("RUNNING 0", False, None),
        ("PENDING 0", False, None),
        ("COMPLETING 0", False, None),
        ("RUNNING 1", False, None),
        ("PENDING 1", True, "requeued by Slurm"),
        ("TIMEOUT 0", True, "its time limit"),
        ("PREEMPTED 0", True, "pre-emption"),
        ("NODE_FAIL 0", True, "its node failed"),
        ("BOOT_FAIL 0", True, "its node did not start"),
        ("FAILED 0", True, None),
        ("OUT_OF_MEMORY 0", True, None),
        ("CANCELLED 0", True, None),
        ("COMPLETED 0", True, None),
    ],
)
def test_what_slurm_took_away_and_what_ended_by_itself(
    *, row, over, why, squeue, tmp_path, monkeypatch
):
    monkeypatch.setattr(slurm, "SETTLE_SECONDS", 0)
    squeue(f"11 {row}")
    paths = SimpleNamespace(result_pickle=tmp_path / "result.pkl")
    job = slurm.SlurmJob(SimpleNamespace(job_id="11", paths=paths), slurm.Queue())
    assert (job.over(), job.taken_away()) == (over, why)
    squeue()
    assert job.over(), "it is listed no longer"


def test_a_job_whose_program_ended_is_asked_for_until_slurm_says_why(squeue, tmp_path, monkeypatch):
    result = tmp_path / "result.pkl"
    result.touch()
    paths = SimpleNamespace(result_pickle=result)
    job = slurm.SlurmJob(SimpleNamespace(job_id="11", paths=paths), slurm.Queue())
    squeue("11 RUNNING 0")
    assert job.over()
    monkeypatch.setattr(slurm.time, "sleep", lambda seconds: squeue("11 PENDING 1"))
    assert job.taken_away() == "requeued by Slurm"


HOSTILE = ("torch", "json", "numpy", "random", "submitit", "robustbench_pcl/__init__")


@pytest.mark.parametrize(("name", "options"), [("workers", {}), ("slurm", {"cluster": "local"})])
def test_nothing_is_imported_from_the_current_folder(
    *, name, options, tiny_workspace, tiny, tmp_path, monkeypatch
):
    here = tmp_path / "here"
    (here / "robustbench_pcl").mkdir(parents=True)
    for module in HOSTILE:
        (here / f"{module}.py").write_text("raise SystemExit('imported from here')")
    (here / "my_plugin.py").write_text("import json, my_neighbour")
    (here / "my_neighbour.py").write_text(f"open({str(here / 'imported')!r}, 'w')")
    monkeypatch.chdir(here)
    monkeypatch.setattr(plugins, "LOADED", {"my_plugin": here})
    monkeypatch.setattr(worker, "LOADED", plugins.LOADED)
    monkeypatch.setattr(scheduler, "ATTEMPTS", 1)
    measure, environment = Measure(tiny("ours"), images=16), dict(os.environ)
    EXECUTORS[name](**options).execute([(measure, 1.0)], tiny_workspace)
    assert tiny_workspace.find(measure).n == 16
    assert dict(os.environ) == environment
    assert (here / "imported").exists(), "the plugin that was named, and what lies beside it"
