"""Kill a suite with two workers again and again: what it ends with is what an undisturbed run has.

``kill -9`` at random moments, and aimed at those of writing: a process stops itself there, by
``aim/sitecustomize.py``, which the package knows nothing of, and is killed then. Sometimes all
processes are killed, sometimes the one that sends the tasks, sometimes one worker.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustbench_pcl.store.hdf5 import open_hdf5

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc"),
]
HERE = Path(__file__).parent
SUITE = "run --suite {suite} --workers 2 --images 150 --device cpu --home {home}"
AIMS = [
    f"{call}:{folder}:{number}:{moment}"
    for call, folder in (
        ("replace", "checkpoints"),
        ("replace", "measurements"),
        ("replace", "adversarial_sets"),
        ("replace", "trainings"),
        ("fsync", "checkpoints"),
        ("fsync", "measurements"),
        ("fsync", "adversarial_sets"),
        ("fsync", ".parts"),
        ("link", ".parts"),
        ("rename", "claims"),
    )
    for number in (1, 1, 2)
    for moment in ("before", "after")
]
KINDS = ["all", "all", "all", "driver", "driver", "worker"]
STORED = ("checkpoints", "measurements", "adversarial_sets")
PATIENCE_SECONDS = 300


def start(home: Path, aim: str = "", mark: Path = Path("mark")) -> subprocess.Popen[str]:
    words = SUITE.format(suite=HERE / "small.toml", home=home).split()
    path = os.pathsep.join([str(HERE / "aim"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "CHAOS_AIM": aim, "CHAOS_MARK": str(mark)}
    return subprocess.Popen(
        [sys.executable, "-m", "robustbench_pcl", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process started, and those that they started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:  # it has just ended
            continue
        if int(parent) == pid:
            child = int(stat.parent.name)
            yield child
            yield from descendants(child)


def send(number: signal.Signals, *processes: int) -> None:
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


def kill(driver: subprocess.Popen[str], which: str) -> str:
    """Kill all processes, the one that sends the tasks, or a worker: with -9, for real.

    Returns:
        Which; there may be no workers yet.
    """
    send(signal.SIGSTOP, driver.pid)  # so that it starts no other meanwhile
    workers = list(descendants(driver.pid))
    stopped = [each for each in workers if state(each) == "T"]
    if which == "worker" and workers:
        send(signal.SIGKILL, *(stopped or workers)[:1])
        send(signal.SIGCONT, driver.pid)
        return which
    send(signal.SIGKILL, driver.pid, *(workers if which == "all" else stopped))
    driver.communicate()
    return which if workers else "all"


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def acknowledged(home: Path) -> dict[Path, str]:
    """The digest of all that is stored under its final name."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in STORED
        for path in home.glob(f"**/{folder}/[!.]*.*")
        if path.is_file()
    }


def made(home: Path) -> dict[str, object]:
    """Weights and images, byte for byte."""
    found: dict[str, object] = {
        path.name: path.read_bytes() for path in home.glob("checkpoints/*.safetensors")
    }
    for path in home.glob("results/adversarial_sets/*.h5"):
        with open_hdf5(path) as file:
            found[path.name] = {name: each.read().tobytes() for name, each in file.arrays.items()}
    return found


def leftovers(home: Path) -> list[str]:
    """What no command would read: temporary files, claims, parts, states, files of tasks."""
    kept = {".safetensors": "checkpoints", ".h5": "adversarial_sets", ".json": "results"}
    return [
        str(path)
        for path in home.rglob("*")
        if path.is_file() and path.name != "run.json"
        if path.name.startswith(".")
        or kept.get(path.suffix) not in (path.parent.name, path.parent.parent.name)
    ]


def finish(driver: subprocess.Popen[str]) -> str:
    out, err = driver.communicate(timeout=PATIENCE_SECONDS)
    assert driver.returncode == 0, err
    assert "Traceback" not in err
    return out


@pytest.fixture
def budget(request):
    """Whether there is another kill to come, by how many there were, in the time that is given."""
    kills, seconds = (request.config.getoption(name) for name in ("--kills", "--kill-seconds"))
    end = time.monotonic() + seconds
    return lambda done: done < kills and time.monotonic() < end


def killed_until_it_ends(home, budget, chance, done):
    """Start the suite and kill it until it comes to its end; what it prints then.

    Args:
        home: its folder.
        budget: whether there is another kill to come.
        chance: where moments are drawn from.
        done: kills up to now, by their kinds; more are counted here.
    """
    known: dict[Path, str] = {}
    while budget(done.total()):
        aim = chance.choice(AIMS) if chance.random() < 0.7 else ""
        mark = home.with_name(f"mark{done.total()}")
        driver, which = start(home, aim, mark), "worker"
        while which == "worker" and budget(done.total()):  # it goes on, with another worker
            aimed = bool(aim) and not mark.exists()
            end = time.monotonic() + (PATIENCE_SECONDS if aimed else chance.uniform(1, 9))
            while driver.poll() is None and time.monotonic() < end:
                if aimed and mark.exists():
                    break
                time.sleep(0.002)
            if driver.poll() is not None:  # before that moment came
                return finish(driver)
            which = kill(driver, chance.choice(KINDS))
            done[f"{which}, {aim.rpartition(':')[0] if aimed else 'at random'}"] += 1
            now = acknowledged(home)
            assert known.items() <= now.items()  # nothing acknowledged is lost
            known |= now
        if which == "worker":
            return finish(driver)
    return finish(start(home))


def test_a_suite_that_is_killed_again_and_again(tmp_path, request, budget, capsys):
    seed = request.config.getoption("--kill-seed")
    chance, done, begun = random.Random(seed), Counter[str](), time.monotonic()
    table = finish(start(tmp_path / "undisturbed"))
    undisturbed = made(tmp_path / "undisturbed")
    rounds = 0
    while budget(done.total()):
        rounds += 1
        home = tmp_path / f"round{rounds}"
        assert killed_until_it_ends(home, budget, chance, done) == table
        assert made(home) == undisturbed
        assert leftovers(home) == []
    with capsys.disabled():
        print(f"\n{done.total()} kills in {rounds} rounds, {time.monotonic() - begun:.0f} s")
        print("\n".join(f"  {count:3} {kind}" for kind, count in sorted(done.items())))
