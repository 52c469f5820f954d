"""Ctrl-C, SIGTERM and SIGHUP, at any moment: two lines, what was done is kept, the same goes on."""

import os
import signal
import sys

import pytest

from robustbench_pcl.store.checkpoints import load_description

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX systems")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}

# A command that hangs while it imports a module.
IMPORTING = """
import sys, time
from pathlib import Path

module, marker, home = sys.argv[1:]

class Hang:
    def find_spec(self, name, *_):
        if name == module:
            Path(marker).touch()
            for _ in range(6000):  # in one piece, it may begin just after the signal came
                time.sleep(0.01)

sys.meta_path.insert(0, Hang())
from robustbench_pcl.cli import main
sys.argv = ["pclbench", "train", "digits", "--scale", "demo", "--home", home]
main()
"""

# Makes a file after the third epoch, and goes on.
TRAINING = """
import sys
from contextlib import contextmanager
from pathlib import Path
from robustbench_pcl import progress
from robustbench_pcl.cli import main

marker, sys.argv[1:2] = Path(sys.argv[1]), []
sys.argv[0] = "/usr/bin/pclbench"

class Marking(progress.TerminalProgress):
    @contextmanager
    def task(self, title, total):
        epochs = []
        def advance(done, words):
            epochs.extend([words] if words else [])
            if len(epochs) > 4:  # the first words are of the epochs that were done before
                marker.touch()
        yield advance

progress.TerminalProgress = Marking
main()
"""

# Takes long to leave.
LEAVING = """
import sys, time
from pathlib import Path
from robustbench_pcl.interruption import exit_code, leave_at_once, raising
working, leaving = map(Path, sys.argv[1:])
leave_at_once()
try:
    with raising():
        try:
            working.touch()
            for _ in range(6000):
                time.sleep(0.01)
        finally:
            time.sleep(0.7)
            leaving.touch()
            for _ in range(100):
                time.sleep(0.01)
            print("left")
except KeyboardInterrupt as interrupt:
    sys.exit(exit_code(interrupt))
"""


def program(text, *arguments):
    return [sys.executable, "-c", text, *map(str, arguments)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["typer", "robustbench_pcl.cli.make", "torch"])
def test_while_modules_are_imported(interrupted, tmp_path, module, number):
    """torch aborts where an exception passes through its import."""
    marker = tmp_path / "marker"
    command = program(IMPORTING, module, marker, tmp_path)
    code, out, err = interrupted(command, marker, number=number)
    assert (code, out) == (CODES[number], "")
    assert err.split("\n") == [
        "",
        "pclbench: Stopped.",
        "  What was finished is kept. Type the same command to continue.",
        "",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_training_keeps_its_last_epoch_and_says_what_to_type(interrupted, tmp_path, number):
    """The state was not written yet: it is, every ten seconds. A name with a space is quoted."""
    home = tmp_path / "my home"
    words = ["train", "digits", "--scale", "demo", "--device", "cpu", "--home", str(home)]
    words += ["--epochs", "5000", "--set", "width=0.1", "--set", "train_images=64"]
    done = 0
    for attempt in ("first", "second"):
        marker = tmp_path / attempt
        command = program(TRAINING, marker, *words)
        code, out, err = interrupted(command, marker, number=number)
        assert (code, out) == (CODES[number], "")
        cause, cure = err.splitlines()[-2:]
        assert cause.startswith(f"pclbench: Stopped by {number.name}: softmax")
        assert cure == f"  Continue with: pclbench {' '.join(words)}".replace(
            str(home), f"'{home}'"
        )
        (state,) = (home / "checkpoints" / "partial").iterdir()
        epochs = len(load_description(state)["history"])
        assert cause.endswith(f" is kept after epoch {epochs} of 5000.")
        assert epochs >= done + 3
        assert ("resuming" in err) == (attempt == "second")
        done = epochs
        assert list((home / "results").rglob("claims/*")) == []


def test_a_second_ctrl_c_leaves_at_once(interrupted, tmp_path):
    working, leaving = tmp_path / "working", tmp_path / "leaving"
    command = program(LEAVING, working, leaving)
    assert interrupted(command, working, (signal.SIGINT, leaving)) == (130, "", "")


def test_a_second_sigterm_cuts_nothing_short(interrupted, tmp_path):
    """`timeout`, and Slurm with srun, send it twice."""
    working, leaving = tmp_path / "working", tmp_path / "leaving"
    again = (signal.SIGTERM, working), (signal.SIGTERM, leaving)
    found = interrupted(program(LEAVING, working, leaving), working, *again, number=signal.SIGTERM)
    assert found == (143, "left\n", "")


def test_a_press_that_arrives_twice_is_one(interrupted, tmp_path):
    """From the terminal, and from a wrapper such as uv that passes it on."""
    working, leaving = tmp_path / "working", tmp_path / "leaving"
    found = interrupted(program(LEAVING, working, leaving), working, (signal.SIGINT, working))
    assert found == (130, "left\n", "")


def test_what_is_ignored_stays_ignored(tmp_path):
    """As under nohup."""
    script = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        "from robustbench_pcl.interruption import raising\n"
        "with raising(): os.kill(os.getpid(), signal.SIGHUP)"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, program(script)) == 0
