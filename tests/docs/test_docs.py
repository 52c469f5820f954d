"""What the documents tell people to type exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from robustbench_pcl.cli.app import HELP, app

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [document.relative_to(ROOT).as_posix() for document in DOCUMENTS]
FENCE = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINE = re.compile(r"^(?:\$ )?(pclbench .+?)(?:  .*)?$", re.MULTILINE)
INLINE = re.compile(r"`(pclbench [^`]+)`")


def commands(document: Path) -> list[str]:
    text = document.read_text(encoding="utf-8")
    blocks = [line for block in FENCE.findall(text) for line in LINE.findall(block)]
    return blocks + INLINE.findall(FENCE.sub("", text))


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_command_line_is_one_that_pclbench_takes(document: Path):
    for line in commands(document):
        command = typer.main.get_command(app)
        words = shlex.split(line.replace("...", ""))[1:]
        while words and hasattr(command, "commands") and words[0] not in HELP:
            word = words.pop(0)
            if word.startswith("-"):
                option = next((one for one in command.params if word in one.opts), None)
                assert option, f"{line}: no option {word}"
                del words[: 0 if option.is_flag else 1]
            else:
                assert word in command.commands, f"{line}: no command {word}"
                command = command.commands[word]
        options = {name for option in command.params for name in option.opts} | set(HELP)
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in options, f"{line}: no option {word}"


def test_command_lines_are_found():
    assert len(commands(ROOT / "docs" / "commands.md")) > 50


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_link_leads_somewhere(document: Path):
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_line_of_contributing_names_a_folder_that_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    folders = re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)
    there = {path.parent.name for path in (ROOT / "robustbench_pcl").glob("*/__init__.py")}
    assert set(folders) == there


def test_the_suite_that_is_shown_can_be_planned(tmp_path):
    text = (ROOT / "docs" / "suites.md").read_text(encoding="utf-8")
    suite, *_ = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "my.toml"
    path.write_text(suite)
    words = ["run", "--suite", str(path), "--dry-run", "--device", "cpu", "--home", str(tmp_path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert "train ours-wide on digits" in result.stdout
    assert "ours-wide under FGSM, eps 0.1" in result.stdout  # the data set's budget
