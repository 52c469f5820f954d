"""Every command, from one list: help, options, the README, and what importing costs."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from robustbench_pcl import __version__
from robustbench_pcl.cli import app

README = Path(__file__).parents[2] / "README.md"


@dataclass(frozen=True)
class Command:
    """A command: how it is called, and its options beside --help."""

    words: str
    options: str = ""
    prints_rows: str = ""  # arguments with which it prints rows at once, in every --format


WHERE = "--device --data-root --home"
COMMANDS = (
    Command("demo", "--output --device --home"),
    Command(
        "train",
        "--loss --adv-train --layers --recipe --scale --seed --epochs --learning-rate "
        f"--precision --format {WHERE}",
    ),
    Command(
        "attack",
        "--dataset --attack --eps --loss --adaptive --set --scale --images --seed --exact "
        f"--format {WHERE}",
    ),
    Command(
        "transfer",
        "--source --target --dataset --attack --eps --set --scale --images --seed --exact "
        f"--format {WHERE}",
    ),
    Command("ablate", f"--scale --images --seed --exact {WHERE}"),
    Command(
        "run",
        "--table --figure --suite --dataset --scale --images --seed --exact --executor "
        f"--executor-option --dry-run --format {WHERE}",
    ),
    Command(
        "report",
        "--table --figure --dataset --format --interval --page --output --scale --seed --home",
        " ",
    ),
    Command("recipes list", "--format", " "),
    Command("recipes show", "--dataset --scale --seed"),
    Command("attacks list", "--format", " "),
    Command("attacks show", "--format", "pgd"),
    Command("models list", "--format", " "),
    Command("models show", "--dataset --format", "conv6 --dataset digits"),
    Command("data list", "--format", " "),
    Command("data add", "--data-root"),
    Command("data verify", "--format", " "),
    Command("data path"),
)
GROUPS = ("recipes", "attacks", "models", "data")


def walk(command, words=()):
    """All commands below one, with their words."""
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(words), command
    else:
        for name, child in below.items():
            yield from walk(child, (*words, name))


FOUND = dict(walk(typer.main.get_command(app)))


def invoke(words):
    return CliRunner().invoke(app, words.split(), catch_exceptions=False)


def test_the_list_is_whole():
    assert [command.words for command in COMMANDS] == list(FOUND)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_help(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = invoke(f"{command.words} --help")
    assert result.exit_code == 0
    assert result.stderr == ""
    summary = FOUND[command.words].help.strip().splitlines()[0]
    assert summary in result.stdout
    assert summary.endswith(".")
    for flag in ("-h", "--help"):
        assert invoke(f"{command.words} {flag}").stdout == result.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_every_parameter_is_known_and_explained(command):
    parameters = [item for item in FOUND[command.words].params if item.name != "help"]
    for parameter in parameters:
        assert parameter.help, f"{command.words} {parameter.name}"
        assert len(parameter.help) > 5, f"{command.words} {parameter.name}"
    options = {
        next(flag for flag in item.opts if flag.startswith("--"))
        for item in parameters
        if item.opts[0].startswith("-")
    }
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


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_the_readme_mentions_every_command(command):
    assert f"pclbench {command.words}" in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.words)
def test_options_mean_the_same_everywhere(command):
    shared = {"--home": "PCLBENCH_HOME", "--data-root": "PCLBENCH_DATA"}
    for parameter in FOUND[command.words].params:
        for flag, variable in shared.items():
            if flag in parameter.opts and command.words != "data add":
                assert parameter.envvar == variable


def test_help_imports_nothing_heavy():
    words = [command.words for command in COMMANDS] + ["", *GROUPS]
    program = f"""
import contextlib, io, sys
from robustbench_pcl.cli import app
for words in {words!r}:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        app([*words.split(), "--help"], prog_name="pclbench")
heavy = "torch torchvision pandas h5py numpy sklearn scipy matplotlib PIL safetensors"
print(sorted(set(heavy.split()) & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


WITH_ROWS = [command for command in COMMANDS if command.prints_rows]


@pytest.mark.parametrize("command", WITH_ROWS, ids=lambda command: command.words)
def test_rows_can_be_piped(command, tmp_path, monkeypatch):
    monkeypatch.setenv("PCLBENCH_HOME", str(tmp_path))
    invoke("data add digits")
    words = f"{command.words} {command.prints_rows}"
    rows = json.loads(invoke(f"{words} --format json").stdout)
    assert rows
    table = list(csv.DictReader(io.StringIO(invoke(f"{words} --format csv").stdout)))
    assert [list(row) for row in table] == [list(row) for row in rows]
    for row, texts in zip(rows, table, strict=True):
        for key, value in row.items():
            assert texts[key] == ("" if value is None else str(value))
    assert invoke(words).exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_data_sets_are_completed():
    """What a shell is offered after ``pclbench data add d``."""
    (argument,) = (item for item in FOUND["data add"].params if item.name == "name")
    context = FOUND["data add"].make_context("add", ["x"], resilient_parsing=True)
    found = argument.shell_complete(context, "d")
    assert [getattr(item, "value", item) for item in found] == ["digits"]
