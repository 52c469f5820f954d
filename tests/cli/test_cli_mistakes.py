"""Mistakes: exit code 2, one line of cause, one of cure, nothing on standard output."""

import os
import pickle
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from robustbench_pcl import Workspace
from robustbench_pcl.cli.app import app
from robustbench_pcl.data import loader
from robustbench_pcl.data.loader import LOCAL_SOURCES
from robustbench_pcl.pipeline.tasks import Train
from robustbench_pcl.store.checkpoints import load_arrays, save_checkpoint

ATTACK = "attack softmax --dataset digits --scale demo --device cpu"
TRAIN = "train digits --scale demo --device cpu"


@pytest.fixture(autouse=True)
def nothing_is_made(tmp_path, monkeypatch):
    """A home of its own, no network, and no training."""

    def refuse(*_):
        raise AssertionError("it went to work")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PCLBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(loader, "SOURCES", LOCAL_SOURCES)
    monkeypatch.setattr(Train, "compute", refuse)


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
        ("attacks show pgd --dataset digts", "Did you mean digits?"),
        (
            ATTACK.replace("softmax", "sofmax"),
            "no recipe or model called 'sofmax'.\n  Did you mean softmax",
        ),
        (f"{TRAIN} --recipe madri", "Did you mean madry"),
        (
            "transfer --source vgg19 --target ors --dataset digits --scale demo",
            "no recipe or model called 'ors'.\n  Did you mean ours",
        ),
        (f"{ATTACK} --attack pdg", "no attack called 'pdg'.\n  Did you mean pgd"),
        (f"{ATTACK} --attack pgd --attack fsgm", "Did you mean fgsm"),
        ("attacks show mm", "Did you mean mim"),
        ("models show resnet111", "no model called 'resnet111'.\n  Did you mean resnet110"),
        (f"{TRAIN} --loss plc", "no loss called 'plc'.\n  Did you mean pcl"),
        (f"{ATTACK} --loss magrin", "no loss called 'magrin'.\n  Did you mean margin?"),
        (ATTACK.replace("demo", "dmeo"), "no scale called 'dmeo'.\n  Did you mean demo?"),
        (TRAIN.replace("demo", "papr"), "Did you mean paper?"),
        (f"{ATTACK} --format jsn", "no format called 'jsn'.\n  Did you mean json?"),
        ("report --table 3 --scale quik", "Did you mean quick?"),
        (f"{ATTACK} --executor slrum", "no executor called 'slrum'.\n  Did you mean slurm?"),
        ("run --table 99 --scale demo", "no table 99"),
        ("report --table 99", "no table 99"),
        # budgets
        (f"{ATTACK} --eps -0.1", "eps -0.1 is negative"),
        (f"{ATTACK} --eps nan", "eps 'nan' is not a number"),
        (f"{ATTACK} --eps 8", "Did you mean --eps 8/255?"),
        (f"{ATTACK} --eps 0.1 --eps 8", "Did you mean --eps 8/255?"),
        (f"{ATTACK} --eps banana", "eps 'banana' is not a number.\n  Write it as 0.03 or 8/255."),
        (f"{ATTACK} --set eps=8", "Did you mean --eps 8/255?"),
        (f"{ATTACK} --attack cw --eps 0.1", "cw has no"),
        # parameters
        (f"{ATTACK} --set steps", "--set 'steps' has no value.\n  Write --set steps=VALUE."),
        (f"{ATTACK} --set steps=banana", "steps"),
        (f"{ATTACK} --set steps=2.5", "steps"),
        (f"{ATTACK} --set steps=0", "steps"),
        (f"{ATTACK} --set stepz=3", "no parameter of pgd called 'stepz'.\n  Did you mean steps"),
        (f"{ATTACK} --set relative-step-size=inf", "relative_step_size"),
        (f"{ATTACK} --set loss=3", "loss"),
        (f"{ATTACK} --attack cw --set c=-1", "c: "),
        (f"{ATTACK} --attack cw --loss margin", "cw has nothing that --loss could say"),
        # options that contradict each other, and options given twice
        (f"{ATTACK} --adaptive --loss margin", "joint loss, not margin.\n  Leave one out."),
        (f"{ATTACK} --eps 0.1 --set eps=0.3", "--eps and --set eps say the same"),
        (f"{ATTACK} --loss margin --set loss=joint", "--loss and --set loss say the same"),
        (f"{ATTACK} --adaptive --set loss=margin", "--adaptive and --set loss say the same"),
        (f"{ATTACK} --set steps=1 --set steps=2", "--set steps is given twice"),
        (f"{ATTACK} --scale quick", "--scale is given 2 times"),
        (f"{ATTACK} --loss margin --loss joint", "--loss is given 2 times"),
        (f"{TRAIN} --epochs 1 --epochs 2", "--epochs is given 2 times"),
        ("report --table 3 --table 4", "--table is given 2 times"),
        ("--recipes a.toml --recipes b.toml data path", "--recipes is given 2 times"),
        (f"{ATTACK} --adaptive", "no loss on features of softmax"),
        (f"{ATTACK} --loss joint", "no loss on features of softmax"),
        (f"{ATTACK} --set loss=joint", "no loss on features of softmax"),
        # training
        (f"{TRAIN} --loss pcl --layers banana", "'banana' is not a list of numbers"),
        (f"{TRAIN} --loss pcl --layers 3,", "is not a list of numbers.\n  Write --layers 3,4,5"),
        (f"{TRAIN} --loss pcl --layers 9", "no layer 9"),
        (f"{TRAIN} --loss pcl --layers 0", "no layer 0"),
        (f"{TRAIN} --layers 3", "cross-entropy"),
        (f"{TRAIN} --precision float16", "no precision called 'float16'.\n  Did you mean float32?"),
        (f"{TRAIN} --learning-rate nan", "learning"),
        (f"{TRAIN} --learning-rate -1", "learning"),
        (f"{TRAIN} --set schedule.epoch=3", "epochs"),
        (f"{TRAIN} --set schedule.epochs=banana", "epochs"),
        # devices and files
        (ATTACK.replace("cpu", "banana"), "no device 'banana' here"),
        (ATTACK.replace("cpu", "cuda:99"), "no device 'cuda:99' here"),
        ("attack ./missing.safetensors --dataset digits", "Cannot read missing.safetensors"),
        ("attack model.pt --dataset digits", "Cannot read model.pt: there is no such file"),
        ("data add digits missing.zip", "missing.zip"),
        ("data verify cifar10", "data add cifar10"),
        ("report --output table.txt", "There is no table to write"),
        ("--recipes missing.toml recipes list", "Cannot read missing.toml"),
        # what to run
        ("run --suite my.toml --dataset digits", "A suite names its own"),
        ("run --suite my.toml --eps 0.1", "A suite names its own"),
        ("report --table 14", "Known: "),
        ("report --figure 7 --table 3", "A figure is written by itself"),
        ("report --figure 7 --format json", "A figure is a picture, not json"),
        ("report --page --format csv", "The page is HTML, not csv"),
        ("report --table 1 --dataset cifar10", "Table 1 describes the code"),
        ("report --table 1 --model ours", "Leave --dataset, --scale, --seed, --model"),
        ("report --figure 7 --seed 0 --seed 1", "Name a table with --table 3, or one --seed."),
        ("report --page --seed 0 --seed 1", "Only a table shows the mean"),
        ("report --model ours", "There are no results for a model called 'ours'"),
        ("report --table 3 --model mine", "no stored model called 'mine'"),
        ("report --figure 2", "no figure 2"),
        ("report --figure seven", "'seven' is no figure's number.\n  Write --figure 7, or"),
        ("report --figure eps", "Name a model: pclbench report --figure eps --model ours."),
        (
            "report --figure 1 --model ours",
            "Leave --model out, or write --figure 7 or --figure eps",
        ),
        ("report --figure 7 --model nobody", "no recipe called 'nobody'"),
        ("run --table 3 --model ours", "Write --figure 7, or leave --model out."),
        ("run --figure 1 --model ours", "Figure 1 of the paper has models of its own."),
        ("report --model nobody", "pclbench attack nobody"),
        ("attack", "See what it takes: pclbench attack --help."),
        ("attack ours --images 0", "See what it takes: pclbench attack --help."),
        ("atack ours", "attack"),
        ("run", "Write --table 3, --figure 7, or --suite my.toml."),
        ("run --table 3 --suite my.toml", "or a suite"),
        ("run --figure 7 --with auto", "Only tables are measured --with another attack."),
        ("run --table 3 --with autoattack", "Did you mean auto?"),
        ("run --suite missing.toml", "Cannot read missing.toml"),
        ("--plugin", "See what it takes: pclbench --help."),
        ("--plugin json", "There is no command"),
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
        "train digits --epochs 0",
        f"{ATTACK} --seed -1",
        f"{ATTACK} --seed 99999999999999999999",
        f"{ATTACK} --banana",
        "transfer --source softmax",
        "run --table three",
        "report --table",
    ],
)
def test_words_that_no_command_takes(words, tmp_path):
    known = ("train", "attack", "transfer", "run", "report")
    command = words.split()[0]
    complain(words, f"See what it takes: pclbench {f'{command} ' * (command in known)}--help.")
    assert list(tmp_path.iterdir()) == []


def test_wrong_names_are_refused_before_torch_is_imported():
    """Whose import alone takes seconds."""
    program = f"""
import sys
from robustbench_pcl.cli.app import app
for words in {WRONG_NAMES!r}:
    try:
        app(words.split())
    except SystemExit as end:
        assert end.code == 2, words
    assert "torch" not in sys.modules, words
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("pclbench: ") == len(WRONG_NAMES)


WRONG_NAMES = [
    "attack sofmax --dataset digits",
    "attack softmax --dataset digts",
    f"{ATTACK} --attack pdg",
    f"{ATTACK} --set stepz=3",
    f"{ATTACK} --adaptive",
    f"{ATTACK} --eps 8",
    f"{ATTACK} --executor slrum",
    f"{TRAIN} --loss plc",
    f"{TRAIN} --recipe madri",
    "train digts",
    "transfer --source vgg19 --target ors --dataset digits",
    "run --table 99",
    "run --table 3 --dataset digts",
    "ablate digts",
    "report --table 3 --dataset digts",
    "recipes show sofmax",
    "attacks show mm",
    "models show resnet111",
    "data add digts",
]


@pytest.fixture
def checkpoint(tiny_home, tiny, tmp_path):
    """A good checkpoint's content, and where to put what becomes of it."""
    content = Workspace(tiny_home, device="cpu").train(tiny()).path.read_bytes()
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
def test_checkpoints_that_are_none(damage, expected, checkpoint):
    content, path = checkpoint
    path.write_bytes(damage(content))
    said = complain("attack given.safetensors --device cpu --images 4", expected)
    assert "given.safetensors" in said


@pytest.mark.parametrize("option", ["--dataset cifar10", "--scale quick"])
def test_an_option_that_contradicts_a_checkpoint(option, checkpoint):
    content, path = checkpoint
    path.write_bytes(content)
    flag, wrong = option.split()
    for words in (
        "attack given.safetensors",
        "transfer --source softmax --target given.safetensors",
    ):
        complain(
            f"{words} --device cpu {option}",
            f"not {wrong}".replace("not cifar", "not on cifar"),
            f"Leave {flag} out",
        )


def test_two_checkpoints_of_one_recipe(checkpoint, tiny, tmp_path):
    content, path = checkpoint
    path.write_bytes(content)
    workspace = Workspace(tmp_path / "x", device="cpu")
    arrays = load_arrays(workspace.train(workspace.open(path)).path)
    arrays["classifier.head.bias"] = arrays["classifier.head.bias"] + 1
    other = save_checkpoint(tmp_path, tiny(), "0123456789ab", arrays).path.name
    complain(
        f"transfer --source given.safetensors --target {other} --device cpu",
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


def test_a_home_that_is_not_there_is_said(tmp_path):
    result = CliRunner().invoke(app, f"report --table 11 --home {tmp_path / 'wrong'}".split())
    assert "67.71" in result.stdout  # the paper's own
    assert "check --home" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_measurement(tmp_path):
    path = tmp_path / "home" / "results" / "measurements" / "0123456789ab.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{")
    result = CliRunner().invoke(app, ["report", "--table", "3", "--strict"])
    assert result.exit_code == 3
    cause, cure = result.stderr.splitlines()[:2]
    assert cause.startswith(f"Left out: {path} is not a measurement")
    assert "Move it away" in cure


SUITE = "datasets=['digits']\ntargets=['softmax']\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("targets = [", "is not TOML"),
        ("", "datasets: field required"),
        (f"{SUITE}attack=[{{name='pdg'}}]", "Did you mean pgd"),
        (f"{SUITE}attack=[{{name='pgd',eps=8}}]", "8/255"),
        (f"{SUITE}attack=[{{name='pgd',steps=[1]}}]", "steps"),
        (f"{SUITE}attack=[{{eps=0.1}}]", "attack 1, name"),
        (f"{SUITE}attack=[{{name='pgd'}}]\nseeds=1", "seeds"),
        (f"{SUITE}attack=[{{name='pgd'}}]\nseed=-1", "seed 1: input should be greater"),
        (
            f"{SUITE}attack=[{{name='pgd', stepz=3}}]",
            "my.toml: attack 1: There is no parameter",
        ),
        (f"{SUITE}attack=[{{name='pgd'}}]\nscale='x'", "scale"),
        (f"{SUITE}attack=[{{name='pgd'}}]\nrecipes.mine.base='ors'", "Did you mean ours"),
        (f"{SUITE}attack=[{{name='pgd'}}]".replace("softmax", "sftmax"), "softmax"),
        (f"{SUITE}attack=[{{name='pgd'}}]".replace("digits", "digts"), "digits"),
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
