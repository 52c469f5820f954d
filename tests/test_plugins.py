"""Plugins: who imports them, when, and what is said about one that cannot be."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from robustbench_pcl import plugins
from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.cli.app import app
from robustbench_pcl.errors import UserError

ADD = """
from typing import Literal
from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.gradient_descent import MIM

ATTACKS.add("mine", f"{__name__}:Mine")

class Mine(MIM):
    name: Literal["mine"] = "mine"
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A current folder of its own; what plugins add is gone afterwards."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plugins, "LOADED", {})
    monkeypatch.setattr(ATTACKS, "members", dict(ATTACKS.members))
    yield folder
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in (getattr(module, "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture
def installed(tmp_path):
    """Install a package whose entry point names a plugin, as pip leaves it."""

    def install(module: str, content: str = "") -> None:
        site = tmp_path / "site"
        info = site / "their_bench-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-bench\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\nany = {module}\n")
        (site / "theirs.py").write_text(content)
        sys.path.append(str(site))

    return install


def run(words):
    return CliRunner().invoke(app, words.split(), catch_exceptions=False)


def attacks(words=""):
    result = run(f"{words} attacks list --format json")
    assert result.exit_code == 0, result.stderr
    return [row["name"] for row in json.loads(result.stdout)["rows"]]


def complaint(words):
    result = run(words)
    assert (result.exit_code, result.stdout) == (2, "")
    cause, cure = result.stderr.splitlines()
    return cause.removeprefix("pclbench: "), cure.strip()


def test_a_plugin_that_is_named_is_imported(here):
    (here / "my_module.py").write_text(ADD)
    assert attacks("--plugin my_module") == [*ATTACKS]
    assert [*ATTACKS][-1] == "mine"


def test_nothing_is_imported_because_it_lies_there(here):
    (here / "my_module.py").write_text(ADD)
    (here / "pclbench.py").write_text("1 / 0")
    assert "mine" not in attacks()


def test_the_environment_names_plugins_too(here, monkeypatch):
    (here / "one.py").write_text(ADD)
    (here / "two.py").write_text(ADD.replace("mine", "yours"))
    (here / "three.py").write_text(ADD.replace("mine", "theirs"))
    monkeypatch.setenv(plugins.VARIABLE, "one, two,")
    assert attacks("--plugin three")[-3:] == ["mine", "yours", "theirs"]
    assert dict.fromkeys(("one", "two", "three"), here) == plugins.LOADED


def test_a_plugin_may_be_a_module_in_a_package_and_have_neighbours(here):
    (here / "lab").mkdir()
    (here / "lab" / "mine.py").write_text("import neighbour")
    (here / "neighbour.py").write_text(ADD)
    assert "mine" in attacks("--plugin lab.mine")


def test_only_the_plugin_itself_is_looked_for_in_its_folder_first(here, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    for name in ("my_module", "installed"):
        (site / f"{name}.py").write_text("WHERE = 'installed'")
    sys.path.append(str(site))
    (here / "installed.py").write_text("raise SystemExit('imported from here')")
    (here / "my_module.py").write_text("from installed import WHERE\nMINE = True")
    plugins.load("my_module")
    assert (sys.modules["my_module"].MINE, sys.modules["my_module"].WHERE) == (True, "installed")


def test_a_plugin_is_imported_once(here):
    (here / "my_module.py").write_text(ADD + "print('Hello')")
    assert run("--plugin my_module --plugin my_module data path").stdout.count("Hello") == 1
    assert "Hello" not in run("--plugin my_module data path").stdout


@pytest.mark.parametrize("name", ["missing", "my_module.py", "./my_module.py", "../x", ".x", "a b"])
def test_a_plugin_that_is_not_there(name, here):
    (here / "my_module.py").write_text(ADD)
    with pytest.raises(UserError) as caught:
        plugins.load(name)
    assert caught.value.cause == f"There is no plugin {name!r}."
    assert caught.value.cure.startswith(f"Give the name of a .py file in {here} without .py")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError: invalid syntax (bad.py, line 1)"),
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("raise ValueError('two\\nlines.')", "ValueError: two lines"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_plugin_that_cannot_be_imported(content, words, here):
    (here / "bad.py").write_text(content)
    cause, cure = complaint("--plugin bad attacks list")
    assert cause == f"The plugin bad cannot be imported: {words}."
    assert cure == 'To see where: python -c "import bad"'


def test_a_plugin_whose_name_is_taken_says_which(here):
    (here / "bad.py").write_text(ADD.replace("mine", "pgd"))
    cause, cure = complaint("--plugin bad attacks list")
    assert cause == "The plugin bad cannot be imported: 'pgd' is the name of another attack."
    assert cure == "Give yours another one."


def test_a_plugin_that_was_mended_is_imported_again(here):
    (here / "my_module.py").write_text(ADD + "import no_such_thing")
    with pytest.raises(UserError):
        plugins.load("my_module")
    (here / "my_module.py").write_text(ADD)
    plugins.load("my_module")
    assert "mine" in ATTACKS


def test_help_needs_no_plugins(installed):
    installed("nothing_like_it")
    for words in ("--help", "--version", "--plugin missing train --help", "data list -h"):
        assert run(words).exit_code == 0


def test_installed_plugins_are_imported(installed, monkeypatch):
    installed("theirs", ADD)
    monkeypatch.setenv(plugins.VARIABLE, "")
    assert "mine" in attacks()
    assert plugins.LOADED == {}  # a worker imports them by itself


@pytest.mark.parametrize(
    ("module", "content", "words"),
    [
        ("theirs", "1 / 0", "ZeroDivisionError: division by zero"),
        ("gone", "", "ModuleNotFoundError: No module named 'gone'"),
        ("theirs", ADD.replace("mine", "pgd"), "'pgd' is the name of another attack"),
    ],
)
def test_an_installed_plugin_that_cannot_be_imported_names_its_package(
    module, content, words, installed
):
    installed(module, content)
    cause, cure = complaint("attacks list")
    assert cause == (
        f"The plugin {module} of the installed package their-bench cannot be imported: {words}."
    )
    assert cure == "Update the package, or take it away: pip uninstall their-bench"


def test_nothing_heavy_is_imported_to_look_for_plugins():
    code = (
        "import sys; from robustbench_pcl import plugins; plugins.load_all(()); "
        "print(sorted({'numpy', 'torch', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
