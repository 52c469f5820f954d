"""Every command that prints for programs prints a document of the schema, and it is listed."""

import json
import re

import pytest
import typer
from documents import SCHEMA, read_document
from typer.testing import CliRunner

from robustbench_pcl.cli.app import app
from robustbench_pcl.report.schema import DOCUMENTS

PRINTED_BY = [words for document in DOCUMENTS.values() for words in document.printed_by]


def commands(command, words=()):
    """All commands with --format."""
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*words, name))
    if any("--format" in option.opts for option in command.params):
        yield " ".join(words)


@pytest.mark.parametrize("words", commands(typer.main.get_command(app)))
def test_every_command_with_a_format_is_in_the_list(words):
    assert any(re.match(rf"{words}\b", each) for each in PRINTED_BY)


LISTINGS = {
    "data list": "datasets",
    "recipes list": "recipes",
    "attacks list": "attacks",
    "attacks show apgd": "parameters",
    "models list": "architectures",
    "models show conv6 --dataset digits": "layers",
    "explain": "codes",
    "explain saturated": "explanation",
    "report": "overview",
    "report --table 2": "description",
    "report --table 6 --dataset fmnist": "table",
    "store list": "inventory",
    "store prune": "unneeded",
    "jobs status": "tasks",
    "attack ours --dataset digits --scale demo --attack strongest --dry-run": "plan",
    'check --require "ours.pgd >= 3" --dataset cifar10': "requirements",
}


@pytest.mark.parametrize("words", LISTINGS)
def test_what_needs_nothing_stored_is_a_document(words, tmp_path, monkeypatch):
    monkeypatch.setenv("PCLBENCH_HOME", str(tmp_path))
    printed = CliRunner().invoke(app, [*_split(words), "--format", "json"])
    assert printed.exit_code in (0, 1), printed.stderr
    read_document(printed.stdout, LISTINGS[words])


def test_the_schema_is_printed_and_written(tmp_path):
    path = tmp_path / "schema.json"
    printed = CliRunner().invoke(app, ["report", "--schema"])
    assert json.loads(printed.stdout) == json.loads(SCHEMA.read_text(encoding="utf-8"))
    CliRunner().invoke(app, ["report", "--schema", "-o", str(path)])
    assert path.read_text(encoding="utf-8") == printed.stdout


def _split(words):
    return [part.strip('"') for part in re.findall(r'"[^"]+"|\S+', words)]
