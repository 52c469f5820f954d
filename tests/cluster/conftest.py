"""One suite, run in one process and then on real clusters, with what may go wrong there."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster_commands import HERE, Command

SUITE = """
datasets = ["digits"]
targets = ["one"]
sources = ["two"]
scale = "demo"
images = 16

[recipes.one]
base = "softmax"
width = 0.2
train_images = 256
schedule = { epochs = 100 }

[recipes.two]
base = "one"
width = 0.25

[[attack]]
name = "fgsm"
"""
SHADOWS = ("torch", "json", "numpy", "random", "ray", "submitit", "robustbench_pcl/__init__")
"""Modules that lie where the command is typed; nobody may import them."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where commands are typed: beside the suite lie modules that must not be imported."""
    here = tmp_path_factory.mktemp("here")
    (here / "robustbench_pcl").mkdir()
    for module in SHADOWS:
        (here / f"{module}.py").write_text("raise SystemExit('imported from here')")
    (here / "suite.toml").write_text(SUITE)
    return here


@pytest.fixture(scope="session")
def local(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The results of the suite, run in one process."""
    return Command(folder, tmp_path_factory.mktemp("local") / "home").results()


@pytest.fixture
def command(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Start ``pclbench run`` on the suite."""
    started: list[Command] = []

    def start(*words: str) -> Command:
        started.append(Command(folder, tmp_path / f"home{len(started)}", *words))
        return started[-1]

    yield start
    for each in started:
        with each.process:
            each.process.terminate()


@contextlib.contextmanager
def brought_up(name: str) -> Iterator[Path]:
    """A cluster in a folder with a short name, for as long as the block lasts.

    Where its daemons do not start, which no code here decides, the tests are skipped and say so.
    """
    place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/tmp"))
    up = [HERE / f"{name}_up.sh", place]
    port = {f"{name.upper()}_PORT": str(21000 + 4 * os.getpid() % 8000)}
    try:
        told = subprocess.run(
            up, env=os.environ | port, capture_output=True, text=True, check=False
        )
        if told.returncode != 0:
            pytest.skip(f"{name} does not start here: {' '.join(told.stderr.split()[-20:])}")
        setting = told.stdout.strip().removeprefix("export ")
        key, _, value = setting.partition("=")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(key, value.strip("'"))
            yield place
    finally:
        subprocess.run([HERE / f"{name}_down.sh", place], check=False, timeout=120)


@pytest.fixture(scope="module")
def slurm() -> Iterator[Path]:
    """A Slurm of two nodes."""
    with brought_up("slurm") as place:
        yield place


@pytest.fixture(scope="module")
def ray() -> Iterator[Path]:
    """A Ray of two nodes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY", f"{sys.executable} -m ray.scripts.scripts")
        with brought_up("ray") as place:
            yield place
