"""Runs: what their records say, what stays of them, and what is asked of them."""

import json
import os
from dataclasses import replace

import pytest

from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline import runs
from robustbench_pcl.pipeline.runs import Run, read_run, request, stored_runs, write_where
from robustbench_pcl.store.claims import Process

GONE = replace(Process.own(), started=1)
"""A process with the number of this one that ended long ago."""


class Named:
    def __init__(self, key):
        self.key, self.title = key, f"make {key}"


def begun(folder, *keys):
    return Run.begin(folder, [Named(key) for key in keys], "toy", {"gpus": 1}, "pclbench run")


def test_a_record_says_what_became_of_each_task(tmp_path):
    run = begun(tmp_path, "a", "b", "c", "d")
    run.note("a", "sent", attempt=1, identity="17")
    write_where(run.file("a", ".where"), "cuda 3")
    run.note("a", "done")
    run.note("b", "sent", attempt=3, identity="18")
    run.note("b", "failed", cause="it broke")
    run.note("c", "cancelled")
    run.end()
    record = read_run(run.folder)
    assert record == run.record
    assert (record.command, record.executor) == ("pclbench run", "toy")
    assert record.settings == {"gpus": 1}
    assert [task.state for task in record.tasks] == ["done", "failed", "cancelled", "left"]
    first, second, *_ = record.tasks
    assert (first.device, first.identity, first.seconds >= 0) == ("cuda 3", "17", True)
    assert (second.cause, second.attempt) == ("it broke", 3)
    assert first.host == Process.own().host
    assert record.ended >= record.began


def test_what_failed_is_kept_and_nothing_else(tmp_path):
    run = begun(tmp_path, "good", "bad")
    (run.folder / "cluster").mkdir()
    for key in ("good", "bad"):
        for suffix in (".json", ".log", ".where", ".ended"):
            run.file(key, suffix).touch()
    run.note("good", "done")
    run.note("bad", "failed", cause="x")
    run.end()
    left = {path.name for path in run.folder.iterdir()}
    assert left == {"run.json", "bad.json", "bad.log", "cluster"}


@pytest.mark.parametrize(
    ("states", "cause"),
    [
        ({"a": "done", "b": "done"}, None),
        ({"a": "done", "b": "left"}, None),
        ({"a": "failed"}, "1 task failed, and 1 task could not begin. make a: why"),
        ({"a": "failed", "b": "failed"}, "2 tasks failed. make a: why"),
        ({"a": "cancelled", "b": "done"}, "1 task cancelled."),
    ],
)
def test_what_is_said_of_failures(states, cause, tmp_path):
    run = begun(tmp_path, "a", "b")
    for key, state in states.items():
        run.note(key, state, cause="why")
    failure = run.failure()
    assert (failure and failure.cause) == cause


def test_only_the_newest_runs_are_kept_and_any_that_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "KEPT", 3)
    made = []
    for number in range(6):
        run = begun(tmp_path, "a")
        named = run.folder.rename(tmp_path / f"2026010{number}-x")
        run.folder = named
        if number != 1:
            run.end()
        made.append(named)
    begun(tmp_path, "a")
    kept = stored_runs(tmp_path)
    assert kept[:-1] == [made[1], *made[4:]]


def test_a_run_whose_process_is_gone_is_known(tmp_path):
    run = begun(tmp_path, "a")
    assert run.record.alive is True
    run.record.process = GONE
    assert run.record.alive is False
    run.record.process = replace(Process.own(), machine="elsewhere")
    assert run.record.alive is None
    run.end()
    assert run.record.alive is False


def test_requests_add_up(tmp_path):
    run = begun(tmp_path, "a", "b")
    assert run.requests() == set()
    request(run.folder, "a")
    request(run.folder, "b")
    assert run.requests() == {"a", "b"}
    (run.folder / runs.REQUEST).write_text('{"what": [')
    assert run.requests() == set()


@pytest.mark.parametrize("field", [{"key": "../../secret"}, {"identity": "-u"}, {"state": "x"}])
def test_records_that_would_lead_elsewhere(field, tmp_path):
    run = begun(tmp_path, "a")
    path = run.folder / runs.FILE
    content = json.loads(path.read_text())
    content["tasks"][0] |= field
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"is not a run: tasks\.0"):
        read_run(run.folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"executor": 3}', "\x00", None])
def test_files_that_are_no_record(content, tmp_path):
    run = begun(tmp_path, "a")
    path = run.folder / runs.FILE
    path.unlink()
    if content is None:
        os.mkfifo(path)
    else:
        path.write_text(content)
    with pytest.raises(UserError) as caught:
        read_run(run.folder)
    assert str(path) in caught.value.cause


def test_a_record_of_many_tasks_is_not_written_at_every_change(tmp_path, monkeypatch):
    run = begun(tmp_path, *map(str, range(200)))
    written, write_bytes = [], runs.write_bytes

    def note(path, content):
        written.append(path)
        write_bytes(path, content)

    monkeypatch.setattr(runs, "write_bytes", note)
    monkeypatch.setattr(runs, "WRITE_SECONDS", 3600)
    run.write()
    for number in range(200):
        run.note(str(number), "done")
    assert len(written) == 1
    run.end()
    assert {task["state"] for task in json.loads(written[-1].read_text())["tasks"]} == {"done"}
