"""What docs/ci.md shows works as it stands there."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from attack_toys import nearest_mean
from typer.testing import CliRunner

from robustbench_pcl import Workspace
from robustbench_pcl.cli.app import app
from robustbench_pcl.report.requirement_formats import RULES
from robustbench_pcl.report.requirements import OPERATORS, read_requirement

TEXT = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
STEPS = re.findall(r"^ +- run: (pclbench .+)$", TEXT, re.MULTILINE)
(REQUIRED,) = re.findall(r"This is `required.txt`:\n\n```\n(.*?)```", TEXT, re.DOTALL)
MODEL = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A folder with a model that classifies by the nearest class mean, and what is required."""
    monkeypatch.chdir(tmp_path)
    model = nearest_mean(Workspace(device="cpu").dataset("digits").train)
    torch.save(model.state_dict(), "my_model.pt")
    Path("my_model.py").write_text(MODEL)
    Path("required.txt").write_text(REQUIRED)


def typed(line):
    words = shlex.split(line)[1:]
    return CliRunner().invoke(app, [*words, *(["--device", "cpu"] * (words[0] == "attack"))])


def test_the_steps_of_the_workflow_run_one_after_the_other(repository):
    assert [step.split()[1] for step in STEPS] == ["attack", "check", "check"]
    for step in STEPS:
        result = typed(step)
        assert result.exit_code == 0, result.output
    assert json.loads(Path("check.sarif").read_text())["runs"][0]["results"] == []
    Path("required.txt").write_text("my-net.strongest >= 99\n")
    assert [typed(step).exit_code for step in STEPS] == [0, 1, 1]


def test_every_requirement_that_is_shown_can_be_read():
    shown = re.findall(r'--require "(.+?)"', TEXT) + re.findall(r"`(ours\.\S+ \S+ \S+)`", TEXT)
    assert len(shown) >= 5
    for text in shown:
        read_requirement(text, model="my-net")


def test_operators_and_rules_are_those_that_there_are():
    (line,) = re.findall(r"operators are (.+?),\s+numbers", TEXT, re.DOTALL)
    assert set(re.findall(r"`(.+?)`", line)) == {*OPERATORS}
    rows = re.findall(r"^\| (PCL[^|]+) \| \w+ \|", TEXT, re.MULTILINE)
    assert rows == ["PCL301", "PCL302", "PCL100, PCL102 to PCL105"]
    assert {"PCL301", "PCL302", "PCL100", *(f"PCL10{digit}" for digit in "2345")} <= RULES.keys()
