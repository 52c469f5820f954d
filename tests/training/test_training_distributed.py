"""Training on several devices makes the weights of one, and stops as a whole."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pair
import pytest

from robustbench_pcl.cli.app import app
from robustbench_pcl.errors import UserError
from robustbench_pcl.training import distributed

PROGRAM = str(Path(__file__).parent / "pair.py")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have made."""
    folder = tmp_path_factory.mktemp("two")
    pair.run(
        pair.LONGER, folder / "one.partial"
    ).execute()  # leaves its state after the second epoch
    assert distributed.start(2, [sys.executable, PROGRAM, str(folder), "all"]) == 0
    return folder


def assert_close(found: Path, expected: Path, tolerance: float = 1e-5) -> None:
    with np.load(found) as these, np.load(expected) as those:
        assert these.files == those.files
        for name in those.files:
            np.testing.assert_allclose(
                these[name], those[name], rtol=tolerance, atol=tolerance, err_msg=name, strict=True
            )


@pytest.mark.parametrize("name", pair.RECIPES)
def test_two_devices_make_the_weights_of_one(name, two, tmp_path):
    pair.save(tmp_path / "one.npz", pair.RECIPES[name])
    assert_close(two / f"{name}.npz", tmp_path / "one.npz")


def test_two_devices_go_on_from_the_state_of_one(two, tmp_path):
    pair.save(tmp_path / "one.npz", pair.LONGER)
    assert_close(two / "resumed.npz", tmp_path / "one.npz")


def test_one_device_goes_on_from_the_state_of_two(two, tmp_path):
    pair.save(tmp_path / "one.npz", pair.LONGER)
    pair.save(tmp_path / "resumed.npz", pair.LONGER, two / "two.partial")
    assert_close(tmp_path / "resumed.npz", tmp_path / "one.npz")


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("count", [7, 1])
def test_gradients_of_gradients_are_those_of_the_whole_batch(count, rank, two, tmp_path):
    np.savez(tmp_path / "one.npz", **pair.differentiated(pair.some(count)))
    assert_close(two / f"differentiated-{count}-{rank}.npz", tmp_path / "one.npz", 1e-12)


def test_a_network_that_cannot_be_divided_is_refused(two):
    assert "dropout" in (two / "refused-0").read_text(encoding="utf-8")
    assert (two / "refused-1").read_text(encoding="utf-8") == "2"


@pytest.mark.parametrize(
    ("devices", "name", "started", "cause"),
    [
        (2, "cpu", "4", "--devices is 2, and 4 processes started."),
        (1, "cpu", "2", "--devices is 1, and 2 processes started."),
        (34, "cpu", "34", "batches of 33 images, fewer than 34 devices"),
        (64, "cuda", "64", "64 devices are asked for on a machine with"),
        (2, "cuda:0", "2", "is one device, and --devices asks for 2"),
    ],
)
def test_what_cannot_be_trained_together_is_refused(devices, name, started, cause, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", started)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match=cause):
        distributed.check(devices, name, [pair.BASE])
    monkeypatch.setenv("RANK", "1")  # the first one has said it
    with pytest.raises(SystemExit, match="2"):
        distributed.check(devices, name, [pair.BASE])


def test_a_killed_process_stops_all_and_the_state_is_kept(tmp_path):
    with pytest.raises(UserError, match=r"Process 2 of 2 was killed \(SIGKILL\)"):
        distributed.start(2, [sys.executable, PROGRAM, str(tmp_path), "killed"])
    pair.save(tmp_path / "resumed.npz", pair.LONGER, tmp_path / "killed.partial")
    pair.save(tmp_path / "one.npz", pair.LONGER)
    assert_close(tmp_path / "resumed.npz", tmp_path / "one.npz")


def test_a_command_that_torchrun_copies_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.chdir(tmp_path)
    for rank, lines in (("0", 2), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit, match="2"):
            app(["attack", "softmax", "--dataset", "digits"])
        assert len(capsys.readouterr().err.splitlines()) == lines


@pytest.mark.slow
def test_the_command_trains_on_two_devices_what_it_trains_on_one(tmp_path):
    """Plainly, and started by torchrun."""
    command = ["-m", "robustbench_pcl", "train", "digits", "--scale", "demo", "--epochs", "2"]
    command += ["--device", "cpu", "--format", "json"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    rows = []
    for devices, words in ((1, command), (2, command), (2, [*torchrun, *command])):
        home = tmp_path / str(len(rows))
        options = ["--devices", str(devices), "--home", str(home)]
        line = [sys.executable, *words, *options]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        (row,) = json.loads(done.stdout)["rows"]
        record = json.loads(next((home / "results/trainings").iterdir()).read_bytes())
        assert record["devices"] == devices
        rows.append((row["checkpoint"], [entry["loss"] for entry in record["history"]]))
    one, two, by_torchrun = rows
    assert two == (one[0], pytest.approx(one[1], rel=1e-4))
    assert by_torchrun == two
