"""Whatever call to the disk fails: two lines, and the same command then ends as if none had."""

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout

import pytest
from faults import CAUSES, faults
from typer.main import get_command

from robustbench_pcl import Workspace
from robustbench_pcl.cli.app import app
from robustbench_pcl.store.hdf5 import open_hdf5
from robustbench_pcl.store.rules import SEAL

TRAIN = (
    "train digits --scale demo --device cpu --epochs 1 --set train_images=64 --set width=0.1 "
    "--seed 1 --home {home}"
)
ATTACK = "attack {checkpoint} --attack fgsm --images 20 --scale demo --device cpu --home {home}"
REPORT = "report --table 5 --dataset digits --scale demo --home {home} -o {home}/table.html"
EXPORT = "store export {home}.tar --home {home}"
IMPORT = "store import {archive} --home {home}"
COMMANDS = {"train": TRAIN, "attack": ATTACK, "report": REPORT, "import": IMPORT}
TIMES = {"created", "seconds", "seconds_per_epoch", "environment", SEAL}
"""What differs, and what is a digest of it."""
KEPT = {".safetensors", ".json", ".h5", ".html"}


ROOT = get_command(app)


def run(command, home, failing=0, cause=0):
    """Run a command; its exit code, what it prints, and the calls that it made in its folder."""
    checkpoint = next((home / "checkpoints").glob("*.safetensors"), "")
    words = [word.format(home=home, checkpoint=checkpoint) for word in command.split()]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), faults(home, failing, cause) as met:
        try:
            ROOT.main(words)
        except SystemExit as end:
            return end.code, out.getvalue(), err.getvalue(), met.calls


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """For each command the workspace that it begins with."""
    homes = {name: tmp_path_factory.mktemp(name) / "home" for name in COMMANDS}
    for name in ("train", "import"):
        homes[name].mkdir()
    for name, earlier in (("attack", [TRAIN]), ("report", [TRAIN, ATTACK, EXPORT])):
        for command in earlier:
            assert run(command, homes[name])[0] == 0
        shutil.rmtree(homes[name] / "results" / "jobs")
    homes["archive"] = homes["report"].with_suffix(".tar")
    return homes


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if key not in TIMES}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def content(home):
    """All that is stored, but when it was made and how long it took."""
    found = {}
    for path in home.rglob("*"):
        if path.is_dir() or "jobs" in path.parts:
            continue
        assert path.suffix in KEPT, path  # nothing is left over
        assert not path.name.startswith("."), path
        assert not {"claims", "partial"} & set(path.parts), path
        if path.suffix == ".json":
            stored = without_times(json.loads(path.read_bytes()))
        elif path.suffix == ".h5":
            with open_hdf5(path) as file:
                stored = {name: array.read().tobytes() for name, array in file.arrays.items()}
        else:
            stored = path.read_bytes()
        found[str(path.relative_to(home))] = stored
    return found


@pytest.mark.chaos
@pytest.mark.parametrize("name", COMMANDS)
def test_the_k_th_call_fails(name, before, tmp_path):
    """For k = 1, 2, 3, ... until the run makes no more calls; each time in a new workspace."""
    command, home = COMMANDS[name].replace("{archive}", str(before["archive"])), tmp_path / "home"
    shutil.copytree(before[name], home)
    code, *_, calls = run(command, home)
    assert code == 0
    undisturbed, stopped = content(home), 0
    for k in range(1, len(calls) + 1):
        shutil.rmtree(home)
        shutil.copytree(before[name], home)
        code, out, err, met = run(command, home, k, CAUSES[k % len(CAUSES)])
        where = f"{k}: {met[k - 1]}: {out}{err}"
        if code:
            stopped += 1
            assert (code, out) == (2, ""), where
            cause, cure = err.splitlines()[-2:]
            assert cause.startswith("pclbench: "), where
            assert cure.startswith("  "), where
            assert run(command, home)[0] == 0, where
        else:  # it was to tidy up, which the next command does
            Workspace(home).clean()
        assert content(home) == undisturbed, where
    assert stopped > len(calls) / 3


def test_what_fails_for_a_second_time_is_told_apart(tmp_path):
    """The faults do what they say."""
    with faults(tmp_path, 2) as met, pytest.raises(OSError, match="No space left"):
        (tmp_path / "file").write_bytes(b"12")
    assert met.calls == ["open /file", "write /file"]
    assert (tmp_path / "file").read_bytes() == b""
