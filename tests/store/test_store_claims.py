"""Two processes that want one artefact: one makes it, the other waits, and takes over."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from robustbench_pcl.errors import UserError
from robustbench_pcl.store import claims
from robustbench_pcl.store.claims import Process, claimed, remove_dead

HOLDER = """
import sys, time
from pathlib import Path
from robustbench_pcl.store.claims import claimed
folder = Path(sys.argv[1])
with claimed(folder, "key", waiting=print, done=lambda: False) as mine:
    print(mine, flush=True)
    time.sleep(float(sys.argv[2]))
    (folder / "artefact").touch()
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.01)


@pytest.fixture
def holder(tmp_path):
    """A process that has claimed an artefact, and makes it after some seconds."""
    started = []

    def hold(seconds=60.0):
        command = [sys.executable, "-c", HOLDER, str(tmp_path), str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "True\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def take(folder, done=lambda: False):
    """Claim it; whether it is to be made here, and what was said."""
    said = []
    with claimed(folder, "key", waiting=said.append, done=done) as mine:
        return mine, said


def elsewhere(folder, **changes):
    """A claim of another machine's process."""
    owner = {"host": "node7", "machine": "00000000", "pid": 12, "started": 5, **changes}
    (folder / "key").mkdir()
    path = folder / "key" / "owner.json"
    path.write_text(json.dumps(owner))
    return path


def test_a_claim_is_there_for_as_long_as_the_block(tmp_path):
    with claimed(tmp_path, "key", waiting=print, done=lambda: False) as mine:
        assert mine
        owner = json.loads((tmp_path / "key" / "owner.json").read_text())
        assert (owner["pid"], owner["host"]) == (os.getpid(), Process.own().host)
    assert list(tmp_path.iterdir()) == []


def test_what_is_done_is_not_made_again(tmp_path):
    assert take(tmp_path, done=lambda: True) == (False, [])


def test_who_waits_says_for_whom_and_finds_what_the_other_made(tmp_path, holder):
    other = holder(seconds=0.5)
    mine, said = take(tmp_path, (tmp_path / "artefact").exists)
    assert (mine, said) == (False, [f"process {other.pid} on {Process.own().host}"])


def test_a_waiter_takes_over_from_a_process_that_was_killed(tmp_path, holder):
    other = holder()
    killer = threading.Timer(0.2, other.send_signal, [signal.SIGKILL])
    killer.start()
    start = time.monotonic()
    mine, said = take(tmp_path)
    assert mine
    assert len(said) == 1
    assert time.monotonic() - start < claims.SILENCE_SECONDS  # not by patience
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_process_id_that_is_used_again_is_another_process(tmp_path):
    own = Process.own()
    if not own.started:
        pytest.skip("this system does not say when a process began")
    elsewhere(tmp_path, machine=own.machine, pid=own.pid, started=own.started - 1)
    assert take(tmp_path) == (True, [])


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": "x"}', '{"host": 1}'])
def test_a_claim_that_nobody_can_read_is_waited_for_in_silence(tmp_path, monkeypatch, content):
    elsewhere(tmp_path).write_text(content)
    monkeypatch.setattr(claims, "SILENCE_SECONDS", 0.1)
    assert take(tmp_path) == (True, [])


def test_an_owner_elsewhere_is_dead_when_it_is_silent(tmp_path, monkeypatch):
    """By the clock of who waits: the time of its file is hours ahead."""
    path = elsewhere(tmp_path)
    os.utime(path, (time.time() + 9999, time.time() + 9999))
    monkeypatch.setattr(claims, "SILENCE_SECONDS", 0.3)
    start = time.monotonic()
    assert take(tmp_path) == (True, ["process 12 on node7"])
    assert time.monotonic() - start > 0.3


def test_an_owner_elsewhere_lives_while_it_touches_its_claim(tmp_path, monkeypatch):
    path = elsewhere(tmp_path)
    monkeypatch.setattr(claims, "SILENCE_SECONDS", 0.4)
    over = time.monotonic() + 1.2
    count = iter(range(10**6))

    def done():
        os.utime(path, (0, next(count)))
        return time.monotonic() > over

    assert take(tmp_path, done)[0] is False


def test_an_owner_touches_its_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.01)
    with claimed(tmp_path, "key", waiting=print, done=lambda: False):
        path = tmp_path / "key" / "owner.json"
        os.utime(path, (0, 0))
        end = time.monotonic() + 10
        while path.stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_of_many_who_take_over_one_does(tmp_path, monkeypatch):
    """Eight at once, from an owner that is dead; nobody makes it twice."""
    elsewhere(tmp_path, machine=Process.own().machine, pid=2**22 + 1)
    made, gate = [], threading.Barrier(8)

    def work():
        gate.wait()
        with claimed(tmp_path, "key", waiting=lambda _: None, done=lambda: bool(made)) as mine:
            if mine:
                made.append(1)
                time.sleep(0.05)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_another_took_over_is_left_to_it(tmp_path):
    with claimed(tmp_path, "key", waiting=print, done=lambda: False):
        (tmp_path / "key").rename(tmp_path / "aside")
        elsewhere(tmp_path)
    assert json.loads((tmp_path / "key" / "owner.json").read_text())["host"] == "node7"


def test_an_error_releases_the_claim(tmp_path):
    def fail():
        with claimed(tmp_path, "key", waiting=print, done=lambda: False):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_takes_no_claims_is_a_plain_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file, not a folder"):
        take(tmp_path / "file")


def test_only_claims_of_the_dead_are_removed(tmp_path, holder):
    other = holder()
    remove_dead(tmp_path)
    assert (tmp_path / "key").is_dir()
    other.kill()
    other.wait()
    remove_dead(tmp_path)
    assert not (tmp_path / "key").exists()
    elsewhere(tmp_path)
    remove_dead(tmp_path)
    assert (tmp_path / "key").is_dir()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_in_the_place_of_a_claim_does_not_block(tmp_path, monkeypatch):
    (tmp_path / "key").mkdir()
    os.mkfifo(tmp_path / "key" / "owner.json")
    monkeypatch.setattr(claims, "SILENCE_SECONDS", 0.1)
    assert take(tmp_path) == (True, [])


def test_a_name_of_a_host_brings_no_escape_sequence_to_the_terminal(tmp_path, monkeypatch):
    elsewhere(tmp_path, host="\x1b]0;owned\x07node")
    monkeypatch.setattr(claims, "SILENCE_SECONDS", 0.1)
    assert take(tmp_path)[1] == ["process 12 on ]0;ownednode"]


def test_an_ended_process_that_nobody_waited_for_is_dead():
    """As in a container without an init: it stays in the table of processes."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system does not say when a process began")
    own = Process.own()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        stat = Path(f"/proc/{process.pid}/stat")
        other = Process(own.host, own.machine, process.pid, int(stat.read_text().split()[21]))
        assert not other.dead
        process.stdin.close()
        end = time.monotonic() + 30
        while " Z " not in stat.read_text():
            assert time.monotonic() < end
        assert other.dead
    assert not own.dead
