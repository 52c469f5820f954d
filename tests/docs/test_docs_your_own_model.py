"""What docs/how-to/own-model.md shows works as written: its files are saved, its commands typed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.cli.app import app
from robustbench_pcl.store.records import Paths, load_measurements

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "how-to" / name for name in ("own-model.md", "own-data.md")]
SECTIONS = {
    part.partition("\n")[0]: part
    for page in PAGES
    for part in page.read_text(encoding="utf-8").split("\n## ")
}
NAMED = re.compile(r"`(\w+\.(?:py|toml))`")
BLOCK = re.compile(r"```(?:python|toml)\n(.*?)```", re.DOTALL)
DIGITS = ("An example in a few seconds",)
SHAPES = (
    "A folder of images",
    "Your own model on your own data",
    "A torchvision model",
    "All of it in a suite",
)
BARS = ("Images that a function makes",)


def files(section: str) -> dict[str, str]:
    """The blocks of a section, each under the file name that was written last before it."""
    found = BLOCK.finditer(section)
    return {NAMED.findall(section[: block.start()])[-1]: block[1] for block in found}


def commands(section: str) -> list[str]:
    blocks = re.findall(r"^```\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def takes(command: str) -> bool:
    """Whether pclbench has the command's attack, or all options of a report."""
    known = {
        name for each in typer.main.get_command(app).commands["report"].params for name in each.opts
    }
    if " --attack " in command:
        return command.partition(" --attack ")[2].split()[0] in ATTACKS
    return " report " not in command or set(re.findall(r"--\w+", command)) <= known


def run(words, folder):
    """Run Python in a process of its own; what it prints, and says."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{words}\n{result.stderr}"
    return result.stdout + result.stderr


def follow(titles, folder):
    """Save the files of some sections, and type their commands in order."""
    for title in titles:
        for name, content in files(SECTIONS[title]).items():
            (folder / name).write_text(content)
        for command in filter(takes, commands(SECTIONS[title])):
            program, *words = shlex.split(command)
            # -P: as the installed command, Python itself does not look in the current folder.
            said = run(
                ["-P", "-m", "robustbench_pcl", *words] if program == "pclbench" else words, folder
            )
            if "--weights" in command:
                lines = said[said.index("before it is attacked") :].splitlines()[1:8]
                assert all(": ok" in line for line in lines), said


def measured(folder) -> set[tuple[str, float | None]]:
    return {
        (record.target.recipe.name, (record.attack or {}).get("eps"))
        for record in load_measurements(Paths(folder))
    }


@pytest.mark.slow
def test_from_a_state_dict_to_a_row(tmp_path):
    follow(DIGITS, tmp_path)
    assert {("my-net", eps) for eps in (None, 0.05, 0.1, 0.2)} <= measured(tmp_path)
    (notebook,) = BLOCK.findall(SECTIONS["In Python"])
    (tmp_path / "notebook.py").write_text(notebook)
    assert "accuracy: ok" in run(["notebook.py"], tmp_path)
    assert len({name for name, _ in measured(tmp_path)}) == 2  # nothing was stored twice


@pytest.mark.slow
def test_own_images_and_torchvision(tmp_path):
    follow(SHAPES, tmp_path)
    names = {name for name, _ in measured(tmp_path)}
    assert names == {"softmax", "small", "resnet18-shapes", "small-again"}


def test_no_section_with_commands_is_left_out():
    assert {title for title in SECTIONS if commands(SECTIONS[title])} == {
        *DIGITS,
        *SHAPES,
        *BARS,  # typed with the other plugins
    }
