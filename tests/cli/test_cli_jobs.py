"""``pclbench jobs``: runs and tasks as they are, logs, and how what runs is stopped."""

import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace

import pytest
from documents import read_rows
from typer.testing import CliRunner

from robustbench_pcl.cli import jobs
from robustbench_pcl.cli.app import app
from robustbench_pcl.pipeline.executors import EXECUTORS, Local
from robustbench_pcl.pipeline.executors.slurm import Slurm
from robustbench_pcl.pipeline.runs import Run, read_run, write_where
from robustbench_pcl.store.claims import Process
from robustbench_pcl.store.records import Paths

GONE = replace(Process.own(), started=1)
ELSEWHERE = replace(Process.own(), machine="elsewhere", host="node7")


@dataclass
class Named:
    key: str
    title: str


TASKS = [
    Named("train-1", "train softmax on digits"),
    Named("train-2", "train ours on digits"),
    Named("generate-1", "FGSM, eps 0.1 on softmax, digits"),
    Named("measure-1", "softmax under FGSM, eps 0.1 from softmax, digits"),
    Named("measure-2", "ours under FGSM, eps 0.1 from \x1b[31msoftmax, digits"),
]


@pytest.fixture
def run(tmp_path):
    """A run with a task in every state; it goes on, and this process is the one that sends."""
    made = Run.begin(Paths(tmp_path).jobs, TASKS, "slurm", Slurm().content(), "pclbench run --x y")
    made.note("train-1", "done", host="node1", device="cuda 3")
    made.note("train-2", "failed", attempt=3, cause="it broke\x07")
    made.note("generate-1", "sent", attempt=1, identity="4711")
    made.note("measure-1", "sent", attempt=2, identity="4712")
    write_where(made.file("measure-1", ".where"), "cpu")
    made.file("train-2", ".log").write_text("epoch 1\x1b[2Jgone\nit broke\x07\n")
    made.file("measure-1", ".log").write_text("softmax, as it goes\n")
    made.write()
    return made


def typed(words, home, code=0):
    result = CliRunner().invoke(app, ["jobs", *words, "--home", str(home)], catch_exceptions=False)
    assert result.exit_code == code, result.stderr
    return result


def test_status_says_what_each_task_is_doing(run, tmp_path):
    rows = read_rows(typed(["status", "--format", "json"], tmp_path).stdout, "tasks")
    assert [row["state"] for row in rows] == ["done", "failed", "sent", "running", "waiting"]
    assert [row["attempt"] for row in rows] == [0, 3, 1, 2, 0]
    assert (rows[0]["host"], rows[0]["device"]) == ("node1", "cuda 3")
    assert (rows[3]["host"], rows[3]["device"]) == (Process.own().host, "cpu")
    assert rows[4]["since"] is None or "T" in rows[4]["since"]
    assert rows[1]["cause"] == "it broke\x07"


def test_status_fits_a_terminal_and_obeys_no_title(run, tmp_path):
    result = typed(["status"], tmp_path)
    assert all(len(line) <= 80 for line in (result.stdout + result.stderr).splitlines())
    assert "\x1b" not in result.stdout + result.stderr
    assert "\\u001b[31msoftmax" in result.stdout
    assert "runs" in result.stdout
    assert "1 of 5 tasks done" in result.stderr
    assert "train ours on digits: it broke\\u0007" in result.stderr


@pytest.mark.parametrize(
    ("process", "words"), [(GONE, "its process is gone"), (ELSEWHERE, "on another machine")]
)
def test_status_of_a_run_whose_process_is_not_here(process, words, run, tmp_path):
    run.record.process = process
    run.write()
    assert words in typed(["status"], tmp_path).stderr


def test_status_of_nothing_of_the_past_and_of_what_cannot_be_read(run, tmp_path):
    assert "No run is kept" in typed(["status"], tmp_path / "empty").stderr
    assert (
        read_rows(typed(["status", "--format", "json"], tmp_path / "empty").stdout, "tasks") == []
    )
    run.end()
    (run.folder.parent / "20200101-x").mkdir()
    (run.folder.parent / "20200101-x" / "run.json").write_text("{")
    result = typed(["status"], tmp_path)
    assert result.stderr.count("Left out: ") == 1
    assert "over, " in result.stdout
    assert "No run's name begins" in typed(["status", "x"], tmp_path, code=2).stderr


def test_logs_are_shown_and_not_obeyed(run, tmp_path):
    shown = typed(["logs", "train ours"], tmp_path).stdout
    assert shown == "epoch 1\\u001b[2Jgone\nit broke\\u0007\n"
    assert typed(["logs", "measure-1"], tmp_path).stdout == "softmax, as it goes\n"
    assert "There is no log" in typed(["logs", "train softmax"], tmp_path, code=2).stderr
    run.file("generate-1", ".log").touch()
    assert "in several titles" in typed(["logs", "softmax"], tmp_path, code=2).stderr


@pytest.fixture
def stopped(monkeypatch):
    """What was stopped by its identity."""
    identities = []
    monkeypatch.setattr(Slurm, "stop", lambda self, identity: identities.append(identity))
    monkeypatch.setattr(Local, "stop", lambda self, identity: identities.append(identity))
    return identities


def test_what_a_process_that_is_gone_has_sent_is_stopped(run, tmp_path, stopped):
    run.record.process = GONE
    run.write()
    assert "its process is gone" in typed(["cancel"], tmp_path).stderr
    assert stopped == ["4711", "4712"]
    record = read_run(run.folder)
    states = [task.state for task in record.tasks]
    assert states == ["done", "failed", "cancelled", "cancelled", "cancelled"]
    assert record.ended is not None
    assert "Nothing runs" in typed(["cancel"], tmp_path, code=2).stderr


def test_one_task_of_a_process_that_is_gone_is_stopped(run, tmp_path, stopped):
    run.record.process = GONE
    run.write()
    typed(["cancel", "softmax under"], tmp_path)
    assert stopped == ["4712"]
    assert [task.key for task in read_run(run.folder).of("cancelled")] == ["measure-1"]


@pytest.mark.parametrize("process", [None, ELSEWHERE])
@pytest.mark.parametrize("words", [[], ["softmax under"]])
def test_a_process_that_goes_on_is_asked(words, process, run, tmp_path, stopped):
    if process is not None:
        run.record.process = process
        run.write()

    def answer():
        while not (asked := run.requests()):
            time.sleep(0.01)
        for task in TASKS[2:]:
            if asked & {"*", task.key}:
                run.note(task.key, "cancelled")
        run.write()
        if "*" in asked:
            run.end()

    other = threading.Thread(target=answer)
    other.start()
    said = typed(["cancel", *words], tmp_path).stderr
    other.join()
    assert "Cancelled: " in said
    assert ("train" in said) is False
    assert stopped == []


def test_a_process_elsewhere_may_not_answer(run, tmp_path, stopped, monkeypatch):
    monkeypatch.setattr(jobs, "ANSWER_SECONDS", 0)
    assert "has not answered yet" in typed(["cancel"], tmp_path).stderr
    assert stopped == []
    run.record.process = ELSEWHERE
    run.write()
    typed(["cancel"], tmp_path)
    assert stopped == ["4711", "4712"]


def test_a_process_that_does_its_tasks_itself_is_interrupted(tmp_path, stopped):
    run = Run.begin(Paths(tmp_path).jobs, TASKS, "local", {}, "pclbench run")
    assert "One process does all" in typed(["cancel", "train ours"], tmp_path, code=2).stderr
    typed(["cancel"], tmp_path)
    assert stopped == [str(Process.own().pid)]
    run.record.process = ELSEWHERE
    run.write()
    assert "node7" in typed(["cancel"], tmp_path, code=2).stderr


@pytest.mark.parametrize("identity", ["0", "1", "-1"])
def test_a_number_of_many_processes_is_no_process(identity):
    Local().stop(identity)  # or this test would be over


def test_a_process_is_really_interrupted():
    program = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('stopped')"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with subprocess.Popen(
            [sys.executable, "-uc", "print(1)\n" + program], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "1\n"
            time.sleep(0.1)
            Local().stop(str(process.pid))
            assert process.communicate(timeout=30)[0] == "stopped\n"
    finally:
        signal.signal(signal.SIGINT, before)


def test_several_runs_are_told_apart_by_their_names(run, tmp_path, stopped):
    other = Run.begin(Paths(tmp_path).jobs, TASKS, "slurm", {}, "pclbench run")
    assert "Several runs go on" in typed(["cancel"], tmp_path, code=2).stderr
    for each in (run, other):
        each.record.process = GONE
        each.write()
    typed(["cancel", run.folder.name], tmp_path)
    assert read_run(run.folder).ended is not None
    assert read_run(other.folder).ended is None


def test_every_executor_can_stop_what_it_sent():
    for name in EXECUTORS:
        assert EXECUTORS[name].name == name
        assert callable(EXECUTORS[name]().stop)
