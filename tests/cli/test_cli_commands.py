"""Every command, from one list: help, options, rows, completion, and what importing costs."""

import csv
import gc
import io
import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from robustbench_pcl import __version__
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.cli import choices
from robustbench_pcl.cli.app import app
from robustbench_pcl.cli.choices import Scale
from robustbench_pcl.configuration import SCALES
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline import planner
from robustbench_pcl.pipeline.executors import Local
from robustbench_pcl.recipe import TrainingPrecision
from robustbench_pcl.report.render import FORMATS

DOCUMENT = Path(__file__).parents[2] / "docs" / "commands.md"


@dataclass(frozen=True)
class Command:
    """A command: how it is called, and its options beside --help."""

    words: str
    options: str = ""
    prints_rows: str = ""  # arguments with which it prints rows at once, in every --format


PLACE = "--device --data-root --home"
ATTACKS = "--attack --eps --norm --loss --adaptive --restarts --target-class --budget --set"
OWN = "--weights --mean --std --output --name"
TASKS = (
    "--workers --executor --executor-option --only --limit-time --keep-going --dry-run --format "
    f"{PLACE}"
)
WORK = f"--images --seed --scale {TASKS}"
COMMANDS = (
    Command("demo", "--output --device --home"),
    Command(
        "train",
        "--loss --adv-train --layers --recipe --set --scale --seed --epochs --learning-rate "
        f"--precision --devices {TASKS}",
    ),
    Command("attack", f"--dataset --from --exact {OWN} {ATTACKS} {WORK}"),
    Command("transfer", f"--source --target --dataset --exact {OWN} {ATTACKS} {WORK}"),
    Command("diagnose", f"--dataset --source --file --force {OWN} {ATTACKS} {WORK}"),
    Command("explain", "--format", " "),
    Command("ablate", f"--exact {ATTACKS} {WORK}"),
    Command("run", f"--table --figure --model --suite --dataset --with --exact {ATTACKS} {WORK}"),
    Command(
        "report",
        "--published --summary --table --figure --model --dataset --columns --format --interval "
        "--page --output --scale --seed --bib --bundle --with-weights --with-sets --strict "
        "--schema --force --home",
        " ",
    ),
    Command("certify", f"--dataset --eps --file --force {OWN} {WORK}"),
    Command(
        "check",
        "--published --require --requirements --table --model --dataset --scale --seed --eps "
        "--format --output --strict --force --home",
    ),
    Command("export", f"--target --dataset --output --force {PLACE}"),
    Command("verify", f"--published --sample-seed --digest --data --repair --format {PLACE}"),
    Command("recipes list", "--format", " "),
    Command("recipes show", "--dataset --scale --seed"),
    Command("attacks list", "--format", " "),
    Command("attacks show", "--dataset --scale --format", "pgd"),
    Command("models list", "--format", " "),
    Command("models show", "--dataset --format", "conv6 --dataset digits"),
    Command("jobs status", "--format --home"),
    Command("jobs logs", "--run --home"),
    Command("jobs cancel", "--home"),
    Command("data list", "--format", " "),
    Command("data add", "--data-root"),
    Command("data verify", "--format", " "),
    Command("data path"),
    Command("store list", "--kind --format --home"),
    Command("store show", "--format --home"),
    Command(
        "store prune",
        "--sets --keep-tables --partial --older-than --kind --yes --format --home",
    ),
    Command("store export", "--id --table --model --dataset --scale --without-sets --force --home"),
    Command("store import", "--keep-mine --home"),
    Command("store merge", "--published --keep-mine --home"),
    Command("store publish", "--table --model --dataset --scale --home"),
)
GROUPS = ("recipes", "attacks", "models", "jobs", "data", "store")


def walk(command, words=()):
    """All commands below one, with their words."""
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(words), command
    else:
        for name, child in below.items():
            yield from walk(child, (*words, name))


FOUND = dict(walk(typer.main.get_command(app)))
each_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)


def invoke(words):
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 0, result.stderr
    return result


def parameter(words, flag):
    return next(item for item in FOUND[words].params if flag in (item.name, *item.opts))


def test_the_list_is_whole():
    assert [command.words for command in COMMANDS] == list(FOUND)


@each_command
def test_help_says_what_the_command_and_its_options_do(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = invoke(f"{command.words} --help")
    assert result.stderr == ""
    summary = FOUND[command.words].help.strip().splitlines()[0]
    assert summary in result.stdout
    assert summary.endswith(".")
    assert invoke(f"{command.words} -h").stdout == result.stdout
    assert f"pclbench {command.words}" in DOCUMENT.read_text(encoding="utf-8")
    parameters = [item for item in FOUND[command.words].params if item.name != "help"]
    for item in parameters:
        assert len(item.help or "") > 5, item.name
    options = {item.opts[0] for item in parameters if item.opts[0].startswith("-")}
    assert options == set(command.options.split())
    assert all(not item.secondary_opts for item in parameters), "a switch has no --no-"


@pytest.mark.parametrize("words", ["", *GROUPS])
def test_groups_list_their_commands(words):
    for ask in (words, f"{words} --help"):
        result = CliRunner().invoke(app, ask.split())
        text = result.stdout + result.stderr
        inside = [name.split()[-1] for name in FOUND if name.startswith(words)]
        assert all(name in text for name in (inside if words else ["train", *GROUPS]))


def test_the_version():
    result = invoke("--version")
    assert result.stdout == f"pclbench {__version__}\n"
    module = [sys.executable, "-m", "robustbench_pcl", "--version"]
    assert subprocess.run(module, check=True, capture_output=True, text=True).stdout == (
        result.stdout
    )


def test_an_option_means_the_same_in_every_command_that_has_it():
    """One help text, one type, one default, one environment variable.

    Those of commands that only read choose among what is stored.
    """
    reading = ("report", "check", "data add", "store export", "store publish")
    meanings = {}
    for words, command in FOUND.items():
        for item in command.params:
            if item.opts[0] in f"{WORK} {ATTACKS}".split() and words not in reading:
                meaning = (item.help, item.envvar, item.multiple, item.is_flag)
                meanings.setdefault(item.opts[0], {}).setdefault(meaning, []).append(words)
    own = {"--loss"}  # of train: what is minimised; of attacks: what is maximised
    own |= {"--format"}  # text and JSON alone where there are no rows
    assert {flag for flag, found in meanings.items() if len(found) > 1} <= own


def test_the_scales_offered_are_those_there_are():
    assert tuple(Scale) == SCALES


HELP = [f"{words} --help" for words in (*FOUND, *GROUPS)] + ["--help"]


def test_help_imports_nothing_heavy():
    program = f"""
import contextlib, io, sys
from robustbench_pcl.cli.app import app
for words in {HELP!r}:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        app(words.split())
heavy = "torch torchvision pandas rich jinja2 h5py numpy sklearn scipy matplotlib PIL safetensors"
print(sorted(set(heavy.split()) & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_help_takes_less_than_half_a_second():
    """Of the processor: other processes may be in its way."""
    command = [sys.executable, "-m", "robustbench_pcl", "attack", "--help"]
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    "command",
    [command for command in COMMANDS if command.prints_rows],
    ids=lambda command: command.words,
)
def test_rows_can_be_piped(command, tmp_path, monkeypatch):
    monkeypatch.setenv("PCLBENCH_HOME", str(tmp_path))
    invoke("data add digits")
    words = f"{command.words} {command.prints_rows}"
    rows = json.loads(invoke(f"{words} --format json").stdout)["rows"]
    assert rows
    table = list(csv.DictReader(io.StringIO(invoke(f"{words} --format csv").stdout)))
    assert [list(row) for row in table] == [list(row) for row in rows]
    for row, texts in zip(rows, table, strict=True):
        for key, value in row.items():
            # What a spreadsheet would compute is quoted: "-> 128".
            assert texts[key].removeprefix("'") == ("" if value is None else str(value))
    assert invoke(words).stdout
    assert list(tmp_path.iterdir()) == []


ROWS = "attacks list --format"


@pytest.mark.parametrize(
    ("form", "start", "inside"),
    [("md", "| name", "| pgd "), ("html", "<table", "<td>pgd</td>"), ("latex", "\\begin", "pgd &")],
)
def test_rows_can_stand_in_a_document(form, start, inside):
    text = invoke(f"attacks list --format {form}").stdout
    assert text.startswith(start)
    assert inside in text


COMPLETED = [
    ("data add", "name", "dig", "digits"),
    ("train", "dataset", "dig", "digits"),
    ("attack", "--dataset", "cifar100", "cifar100"),
    ("run", "--dataset", "sv", "svhn"),
    ("attack", "target", "ours-pg", "ours-pgd"),
    ("transfer", "--source", "vgg19-a", "vgg19-advtrain"),
    ("transfer", "--target", "madr", "madry"),
    ("train", "--recipe", "ross-f", "ross-fgsm"),
    ("recipes show", "name", "trip", "triplet"),
    ("attack", "--attack", "fg", "fgsm"),
    ("attacks show", "name", "mi", "mim"),
    ("train", "--loss", "contr", "contrastive"),
    ("train", "--adv-train", "pg", "pgd"),
    ("attack", "--loss", "mar", "margin"),
    ("models show", "name", "resnet110", "resnet110"),
    ("diagnose", "target", "madr", "madry"),
    ("explain", "code", "PCL10", "PCL103"),
    ("attack", "--scale", "pap", "paper"),
    ("report", "--format", "la", "latex"),
    ("report", "--columns", "White-box P", "White-box PGD"),
    ("run", "--executor", "sl", "slurm"),
]


@pytest.mark.parametrize(("words", "name", "start", "found"), COMPLETED)
def test_names_are_completed_by_the_shell(words, name, start, found):
    context = FOUND[words].make_context("x", [], resilient_parsing=True)
    offered = parameter(words, name).shell_complete(context, start)
    values = [getattr(item, "value", item) for item in offered]
    assert found in values
    assert all(value.startswith(start) for value in values)


def test_completion_asks_the_shell_way_and_imports_no_torch():
    """What bash runs after ``pclbench attack ours-p<TAB>``."""
    program = (
        "import atexit, sys; from robustbench_pcl.cli.app import app\n"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
        "app()"
    )
    environment = os.environ | {
        "_PCLBENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": "pclbench attack ours-p",
        "COMP_CWORD": "2",
    }
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert "ours-pgd" in result.stdout.split()
    assert result.stderr.strip() == "False"


def test_choices_are_those_that_there_are():
    """The enums are written out again for help that imports nothing; they must not drift."""
    assert tuple(choices.Scale) == SCALES
    assert tuple(choices.Loss) == tuple(AttackLoss)
    assert tuple(choices.Precision) == get_args(TrainingPrecision)
    assert set(choices.Format) == set(FORMATS)


def test_garbage_is_looked_for_as_usual_once_work_begins(tmp_path, monkeypatch):
    usual, find_missing = gc.get_threshold(), planner.missing

    def starting(*given):
        assert gc.get_threshold()[0] > 10 * usual[0]
        return find_missing(*given)

    def working(*_):
        assert gc.get_threshold() == usual
        assert gc.get_freeze_count() > 100_000  # torch is among what is not looked through
        raise UserError("Enough", "is seen.")

    monkeypatch.setattr(planner, "missing", starting)
    monkeypatch.setattr(Local, "execute", working)
    words = f"train digits --scale demo --device cpu --home {tmp_path}"
    try:
        assert "Enough" in CliRunner().invoke(app, words.split(), catch_exceptions=False).stderr
        assert gc.get_threshold() == usual
    finally:
        gc.unfreeze()
