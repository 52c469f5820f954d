"""Weights from elsewhere: every file that training scripts leave is understood, and none is run."""

import argparse
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from robustbench_pcl.errors import UserError
from robustbench_pcl.models.weights import fit, read_weights


def net(width: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.LazyLinear(3)
    )


def made(width: int = 4) -> nn.Sequential:
    """Its weights are there."""
    model = net(width)
    model(torch.rand(2, 1, 5, 5))
    return model


STATE = made().state_dict()
LEFT = {
    "a state_dict": STATE,
    "an older one, without counters": {k: v for k, v in STATE.items() if "num_batches" not in k},
    "a checkpoint": {"state_dict": STATE, "epoch": 3, "best": 0.9},
    "another checkpoint": {"model": STATE, "optimizer": {"state": {0: STATE["0.bias"]}, "lr": 0.1}},
    "DataParallel": nn.DataParallel(made()).state_dict(),
    "compiled, in DataParallel": {f"module._orig_mod.{k}": v for k, v in STATE.items()},
    "half precision": {k: v.half() if v.is_floating_point() else v for k, v in STATE.items()},
}


@pytest.mark.parametrize("kind", LEFT)
def test_what_training_scripts_leave_is_read(kind, tmp_path):
    path = tmp_path / "model.pt"
    torch.save(LEFT[kind], path)
    fresh = made()
    for value in fresh.parameters():
        nn.init.zeros_(value)
    fit(fresh, read_weights(path), path, "net")
    for name, value in STATE.items():
        if "num_batches" not in name:
            assert torch.allclose(fresh.state_dict()[name], value, atol=1e-3)


def test_safetensors_are_read_whatever_the_file_is_called(tmp_path):
    save_file(STATE, tmp_path / "model.pt")
    read = read_weights(tmp_path / "model.pt")
    assert read.keys() == STATE.keys()
    assert all(torch.equal(read[name], STATE[name]) for name in STATE)


def complaint(write, tmp_path, code=""):
    path = tmp_path / "model.pt"
    write(path)
    with pytest.raises(UserError) as raised:
        read_weights(path, code)
    for line in (raised.value.cause, raised.value.cure):
        assert line
        assert "\n" not in line
    assert str(path) in raised.value.cause
    return raised.value


def scripted(path):
    with pytest.warns((FutureWarning, DeprecationWarning)):  # which, depends on the version
        torch.jit.script(made()).save(path)


def truncated(path):
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_text("<!DOCTYPE html>"), "a web page"),
        (lambda path: path.write_bytes(b"version https://git-lfs"), "a Git LFS pointer"),
        (lambda path: path.write_bytes(b""), "truncated or damaged"),
        (truncated, "truncated or damaged"),
        (lambda path: path.write_bytes(b"\x08" + bytes(7) + b"{}      " + bytes(9)), "no weights"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "a pickled file"),
        (lambda path: torch.save({"epoch": 3}, path), "no state_dict, but a dict of epoch"),
        (lambda path: torch.save(torch.zeros(3), path), "no state_dict, but a Tensor"),
        (lambda path: torch.save({}, path), "no state_dict, but a dict"),
        (scripted, "TorchScript"),
    ],
)
def test_what_holds_no_weights_is_named(write, words, tmp_path):
    assert words in str(complaint(write, tmp_path))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="Cannot read"):
        read_weights(tmp_path / "none.pt")


class Payload:
    """What a pickled file can do to whoever opens it."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


def test_a_pickle_is_never_executed(tmp_path):
    canary = tmp_path / "canary"
    said = complaint(lambda path: torch.save({"model": Payload(canary)}, path), tmp_path)
    assert "holds more than tensors" in said.cause
    assert not canary.exists()
    torch.load(tmp_path / "model.pt", weights_only=False)
    assert canary.exists()  # the payload was live


CODE = """
import torch
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(4, 3))
if __name__ == "__main__":
    torch.save({what}, "model.pt")
"""


@pytest.mark.parametrize("what", ["Net()", "{'state_dict': Net().state_dict(), 'net': Net()}"])
def test_the_command_that_converts_a_whole_model_works_as_printed(what, tmp_path, monkeypatch):
    (tmp_path / "code.py").write_text(CODE.replace("{what}", what))
    subprocess.run([sys.executable, "code.py"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        read_weights(Path("model.pt"), "code")
    assert "would call __main__.Net" in raised.value.cause
    command = raised.value.cure.split('python -c "')[1].split('"')[0]
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    assert "then --weights model-weights.pt" in raised.value.cure
    assert list(read_weights(tmp_path / "model-weights.pt")) == ["1.weight", "1.bias"]


def test_the_command_that_takes_one_of_several_sets_works_as_printed(tmp_path):
    several = {"state_dict": STATE, "ema": made(4).state_dict()}
    said = complaint(lambda path: torch.save(several, path), tmp_path)
    assert "several sets of weights: state_dict, ema" in said.cause
    command = said.cure.split('python -c "')[1].split('"')[0]
    subprocess.run([sys.executable, "-c", command], cwd=tmp_path, check=True)
    assert read_weights(tmp_path / "model-weights.pt").keys() == STATE.keys()


def test_settings_beside_the_weights_are_named(tmp_path):
    content = {"state_dict": STATE, "args": argparse.Namespace(lr=0.1)}
    assert "argparse.Namespace" in complaint(lambda p: torch.save(content, p), tmp_path).cause


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("0.bias"), "0.bias missing"),
        (lambda state: (state.pop("0.bias"), state.pop("1.bias")), "0.bias and 1 more missing"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra unexpected"),
        (lambda state: state.update(made(6).state_dict()), "0.weight is (6, 1, 3, 3), not (4, 1,"),
    ],
)
def test_weights_of_another_model_are_named(change, words):
    state = dict(STATE)
    change(state)
    with pytest.raises(UserError) as raised:
        fit(made(), state, Path("model.pt"), "code.py:Net")
    assert raised.value.cause.startswith("model.pt does not fit code.py:Net: ")
    assert words in raised.value.cause


def test_a_prefix_that_the_model_has_itself_is_kept():
    model = nn.Sequential()
    model.module = nn.Linear(2, 2)
    fit(model, model.state_dict(), Path("model.pt"), "net")
    with pytest.raises(UserError, match=r"weight and 1 more unexpected"):
        fit(model, model.module.state_dict(), Path("model.pt"), "net")
