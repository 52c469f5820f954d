"""Mistakes: exit code 2, one line of cause, one of cure, nothing on standard output."""

import os
import pickle
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from robustbench_pcl.cli import app
from robustbench_pcl.data import loading
from robustbench_pcl.data.sources import LOCAL_SOURCES
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.store.atomic import write_bytes
from robustbench_pcl.store.checkpoints import save_checkpoint
from robustbench_pcl.training.loop import Run

ATTACK = "attack softmax --dataset digits --scale demo --device cpu"
TRAIN = "train digits --scale demo --device cpu"


@pytest.fixture(autouse=True)
def nothing_is_made(tmp_path, monkeypatch):
    """A home of its own, no network, and no training."""

    def refuse(*_):
        raise AssertionError("it went to work")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PCLBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(loading, "SOURCES", LOCAL_SOURCES)
    monkeypatch.setattr(Run, "execute", refuse)


def complain(words, *expected):
    """Run a command that has to complain; return what it says."""
    result = CliRunner().invoke(app, words.split(), catch_exceptions=False)
    assert_complaint(result.exit_code, result.stdout, result.stderr, *expected)
    return result.stderr


def assert_complaint(code, out, err, *expected):
    assert (code, out) == (2, "")
    cause, cure = err.splitlines()
    assert cause.startswith("pclbench: ")
    assert cure.startswith("  ")
    assert "Traceback" not in err
    for words in expected:
        assert words in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # names
        ("attack softmax --dataset digts", "no data set called 'digts'.\n  Did you mean digits?"),
        ("train digts", "Did you mean digits?"),
        ("ablate digts --scale demo", "Did you mean digits?"),
        ("run --table 3 --dataset digts --scale demo", "Did you mean digits?"),
        ("report --table 3 --dataset digts", "Did you mean digits?"),
        ("data add digts", "Did you mean digits?"),
        ("models show conv6 --dataset digts", "Did you mean digits?"),
        (ATTACK.replace("softmax", "sofmax"), "no recipe called 'sofmax'.\n  Did you mean softm"),
        (f"{TRAIN} --recipe madri", "Did you mean madry"),
        (
            "transfer --source vgg19 --target ors --dataset digits --scale demo",
            "no recipe called 'ors'.\n  Did you mean ours",
        ),
        (f"{ATTACK} --attack pdg", "no attack called 'pdg'.\n  Did you mean pgd?"),
        (f"{ATTACK} --attack pgd --attack fsgm", "Did you mean fgsm?"),
        ("attacks show mm", "Did you mean mim"),
        ("models show resnet111", "no model called 'resnet111'.\n  Did you mean resnet110"),
        (f"{TRAIN} --loss plc", "no loss called 'plc'.\n  Did you mean pcl"),
        (f"{ATTACK} --loss magrin", "no attack loss called 'magrin'.\n  Did you mean margin?"),
        (ATTACK.replace("demo", "dmeo"), "no scale called 'dmeo'.\n  Did you mean demo?"),
        (TRAIN.replace("demo", "papr"), "Did you mean paper?"),
        ("report --table 3 --scale quik", "Did you mean quick?"),
        ("run --table 99 --scale demo", "no table 99 to measure.\n  Known: --table 3,"),
        ("report --table 99", "no table 99"),
        # budgets
        (f"{ATTACK} --eps -0.1", "eps -0.1 is negative"),
        (f"{ATTACK} --eps -1/255", "eps -1/255 is negative"),
        (f"{ATTACK} --eps nan", "eps 'nan' is not a number"),
        (f"{ATTACK} --eps inf", "eps 'inf' is not a number"),
        (f"{ATTACK} --eps 8", "Did you mean --eps 8/255?"),
        (f"{ATTACK} --eps banana", "eps 'banana' is not a number.\n  Write it as 0.03 or 8/255."),
        (f"{ATTACK} --eps 1/0", "eps '1/0' is not a number"),
        (f"{ATTACK} --set eps=8", "Did you mean --eps 8/255?"),
        (f"{ATTACK} --attack cw --eps 0.1", "cw has no L-infinity budget.\n  Leave --eps out"),
        # parameters
        (f"{ATTACK} --set steps", "'steps' is not a parameter.\n  Write --set steps=40."),
        (f"{ATTACK} --set steps=banana", "steps of pgd is a whole number, not 'banana'"),
        (f"{ATTACK} --set steps=2.5", "steps of pgd is a whole number, not 2.5"),
        (f"{ATTACK} --set steps=nan", "steps of pgd is a whole number, not nan"),
        (f"{ATTACK} --set steps=0", "steps is 0; an attack takes at least one"),
        (f"{ATTACK} --set stepz=3", "no parameter of attack pgd called 'stepz'.\n  Did you mean"),
        (f"{ATTACK} --set relative-step-size=inf", "is a finite number, not inf"),
        (f"{ATTACK} --set loss=3", "loss of pgd is a word, not 3"),
        (f"{ATTACK} --attack cw --set learning_rate=fast", "is a finite number, not 'fast'"),
        (f"{ATTACK} --attack cw --set c=-1", "c is -1; it must be positive"),
        (f"{ATTACK} --attack cw --loss margin", "no parameter of attack cw called 'loss'"),
        (f"{ATTACK} --adaptive --loss margin", "joint loss, not margin.\n  Leave one out."),
        # training
        (f"{TRAIN} --loss pcl --layers banana", "'banana' is not a list of numbers"),
        (f"{TRAIN} --loss pcl --layers 3,", "is not a list of numbers.\n  Write --layers 3,4,5"),
        (f"{TRAIN} --loss pcl --layers 9", "This model has no layer 9.\n  Its layers are 1 to 5"),
        (f"{TRAIN} --loss pcl --layers 0", "This model has no layer 0"),
        (f"{TRAIN} --layers 3", "Plain cross-entropy does not act on layers"),
        (f"{TRAIN} --recipe ours --loss pcl", "--recipe already says"),
        (f"{TRAIN} --precision float16", "Did you mean float32? Known: float32, mixed"),
        (f"{TRAIN} --learning-rate nan", "--learning-rate nan is not a positive number"),
        (f"{TRAIN} --learning-rate -1", "--learning-rate -1 is not a positive number"),
        (f"{TRAIN} --learning-rate inf", "--learning-rate inf is not a positive number"),
        # devices and files
        (ATTACK.replace("cpu", "banana"), "no device 'banana' here"),
        (ATTACK.replace("cpu", "meta"), "no device 'meta' here"),
        (ATTACK.replace("cpu", "cuda:99"), "no device 'cuda:99' here"),
        ("attack ./missing.safetensors --dataset digits", "Cannot read missing.safetensors"),
        ("attack model.pt --dataset digits", "Cannot read model.pt: No such file"),
        ("data add digits missing.zip", "missing.zip"),
        ("data verify cifar10", "data add cifar10"),
        ("report --format latex", "There is no table to write"),
        # what to run
        (f"{ATTACK} --adaptive", "no loss on features for an attack to know"),
        ("attack ours-pgd-l45 --dataset digits --scale demo", "Did you mean ours-l45-pgd?"),
        ("run --suite my.toml --dataset digits", "A suite says its own"),
        ("report --table 14", "Known: --table 1, 2, 3,"),
        ("attack", "See what it takes: pclbench attack --help."),
        ("attack ours --images 0", "See what it takes: pclbench attack --help."),
        ("atack ours", "Did you mean 'attack'"),
        ("run", "Write --table 3, --figure 7, or --suite my.toml."),
        ("run --table 3 --suite my.toml", "or a suite"),
        ("run --suite missing.toml", "Cannot read missing.toml"),
    ],
)
def test_what_is_said(words, expected, tmp_path):
    complain(words, expected)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "banana",
        "train",
        "train digits --adv-train banana",
        "train digits --epochs 0",
        f"{ATTACK} --images 0",
        f"{ATTACK} --seed -1",
        f"{ATTACK} --format banana",
        f"{ATTACK} --banana",
        "transfer --source softmax",
        "run --table three",
    ],
)
def test_words_that_no_command_takes(words, tmp_path):
    result = CliRunner().invoke(app, words.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def checkpoint(tiny_home, tiny, tmp_path):
    """A good checkpoint's content, and where to put what becomes of it."""
    content = Bench(tiny_home, device="cpu").checkpoint(tiny()).path.read_bytes()
    return content, tmp_path / "given.safetensors"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda content: b"<!DOCTYPE html><html>404</html>", "is a web page (HTML)"),
        (lambda content: content[:100], "is truncated or damaged"),
        (lambda content: content[:-1], "is truncated or damaged"),
        (lambda content: b"", "is truncated or damaged"),
        (lambda content: pickle.dumps({"weights": 1}), "is a pickled file"),
        (lambda content: b"PK\x03\x04" + bytes(100), "is a pickled PyTorch file"),
        (lambda content: b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file"),
        (lambda content: content[:-9] + bytes(9), "not the ones that its header names"),
    ],
)
@pytest.mark.parametrize(
    "words",
    [
        "attack given.safetensors --dataset digits --device cpu --images 4",
        "transfer --source given.safetensors --target ./given.safetensors --dataset digits "
        "--device cpu --images 4",
    ],
)
def test_checkpoints_that_are_none(words, damage, expected, checkpoint):
    content, path = checkpoint
    path.write_bytes(damage(content))
    said = complain(words, expected)
    assert "given.safetensors" in said


def test_a_checkpoint_of_another_data_set(checkpoint):
    content, path = checkpoint
    path.write_bytes(content)
    words = "given.safetensors was trained on digits, not on cifar10.\n  Add --dataset digits."
    complain("attack given.safetensors --device cpu", words)


def test_two_checkpoints_of_one_recipe(checkpoint, tiny, tmp_path):
    content, path = checkpoint
    path.write_bytes(content)
    arrays = Bench(tmp_path / "x", device="cpu")
    arrays = arrays.checkpoint(arrays.open(path)).arrays()
    arrays["classifier.head.bias"] = arrays["classifier.head.bias"] + 1
    other = save_checkpoint(tmp_path, tiny(), "0123456789ab", arrays).path.name
    complain(
        f"transfer --source given.safetensors --target {other} --dataset digits --device cpu",
        "different weights of one recipe",
    )


def test_a_data_set_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PCLBENCH_CACHE", str(tmp_path / "cache"))
    for words in ("train svhn", "attack ours --dataset svhn", "run --table 3 --dataset svhn"):
        said = complain(f"{words} --scale quick --device cpu", "SVHN was not found. Looked in")
        assert "pclbench data add svhn FILE" in said
    assert list((tmp_path).iterdir()) == []


def test_a_home_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for home in ("file", "file/below"):
        complain(f"{TRAIN} --home {home}", "is a file, not a folder", "--home DIR")
        complain(f"{ATTACK} --home {home}", "is a file, not a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_damaged_measurement(tmp_path):
    path = tmp_path / "home" / "results" / "measurements" / "0123456789ab.json"
    write_bytes(path, b"{")
    complain("report --table 3", f"{path} is not a measurement", "Move it away")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("targets = [", "is not TOML"),
        ("", "datasets: Field required"),
        ("datasets=['digits']\ntargets=['softmax']\nattack=[{name='pdg'}]", "Did you mean pgd"),
        ("datasets=['digits']\ntargets=['softmax']\nattack=[{name='pgd',eps=8}]", "8/255"),
        ("datasets=['digits']\ntargets=['sftmax']\nattack=[{name='pgd'}]", "softmax"),
        ("datasets=['digts']\ntargets=['softmax']\nattack=[{name='pgd'}]", "digits"),
        ("datasets=['digits']\ntargets=['softmax']\nattack=[{name='pgd',steps=[1]}]", "steps"),
        ("datasets=['digits']\ntargets=['softmax']\nattack=[{eps=0.1}]", "attack.0.name"),
        ("datasets=['digits']\ntargets=['softmax']\nattack=[{name='pgd'}]\nseeds=1", "seeds"),
        ("datasets=['digits']\ntargets=['softmax']\nattack=[{name='pgd'}]\nscale='x'", "scale"),
    ],
)
def test_suites_that_make_no_sense(tmp_path, content, expected):
    (tmp_path / "my.toml").write_text(content)
    complain("run --suite my.toml --device cpu", expected)


def test_a_real_process_ends_the_same_way(tmp_path):
    environment = {**os.environ, "PCLBENCH_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "robustbench_pcl", *f"{ATTACK} --eps 8".split()]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert_complaint(result.returncode, result.stdout, result.stderr, "--eps 8/255?")
