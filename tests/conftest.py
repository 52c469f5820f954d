"""What all tests share: no user's folders, one thread, and small models that train in a second."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from robustbench_pcl.losses import LOSSES
from robustbench_pcl.recipe import AdversarialTraining, Recipe, Schedule

# What these make for their own tests serves in other folders, too.
sys.path += [str(Path(__file__).parent / folder) for folder in ("attacks", "report", "store")]

TINY = Recipe(
    name="softmax",
    scale="demo",
    dataset="digits",
    model="conv6",
    width=0.2,
    train_images=256,
    schedule=Schedule(epochs=4, batch_size=32, learning_rate=0.1, milestones=(3,)),
)
"""A recipe that trains in about a second."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long tests/chaos goes on: as in CI, unless told otherwise."""
    chaos = parser.getgroup("chaos")
    chaos.addoption("--kills", type=int, default=30, help="kill -9 so often")
    chaos.addoption("--kill-seconds", type=float, default=180, help="for at most so long")
    chaos.addoption("--kill-seed", type=int, default=0, help="of the moments")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Coverage is measured of each test's first case only: to trace all doubles the time."""
    met: set[str] = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if test in met:
            item.add_marker("no_cover")
        met.add(test)


@pytest.fixture(scope="session", autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No folder of the user's is read or written, here or in processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCLBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        for name in ("HOME", "DATA", "PLUGINS", "RECIPES"):
            patch.delenv(f"PCLBENCH_{name}", raising=False)
        patch.delenv("FORCE_COLOR", raising=False)
        yield


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Sums in the same order everywhere."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Recipe]:
    """Make a small recipe on digits: "softmax", "ours" or "ours-pgd", with changes."""
    against = AdversarialTraining(attack="pgd", steps=2, relative_step_size=0.5, high=0.1)
    pcl = LOSSES.configure("pcl").dump()

    def make(name: str = "softmax", /, **changes: object) -> Recipe:
        own: dict[str, object] = {"name": name}
        if name != "softmax":
            own |= {"loss": pcl, "feature_layers": (3, 4, 5), "start": TINY}
        if name == "ours-pgd":
            own |= {"adversarial_training": against}
        return TINY.changed(**{**own, **changes})

    return make


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Recipe]) -> Path:
    """A folder with three small trained models; to be read only."""
    import torch

    from robustbench_pcl import Workspace

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("home")
    workspace = Workspace(folder, device="cpu")
    for name in ("ours", "ours-pgd"):
        workspace.train(tiny(name))
    return folder


@pytest.fixture
def tiny_workspace(tiny_home: Path, tmp_path: Path):  # type: ignore[no-untyped-def]
    """A workspace of the test's own, with the small trained models in it."""
    from robustbench_pcl import Workspace

    shutil.copytree(tiny_home / "checkpoints", tmp_path / "checkpoints")
    return Workspace(tmp_path, device="cpu")


@pytest.fixture
def killed() -> Callable[[str, Path], None]:
    """Run a program in a process of its own and kill it, for real, once it makes a file."""

    def kill(program: str, marker: Path, *arguments: str) -> None:
        with started([sys.executable, "-c", program, *arguments]) as process:
            wait_for(marker, process)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL

    return kill


@pytest.fixture
def interrupted() -> Callable[..., tuple[int, str, str]]:
    """Run a command and send it a signal, that of Ctrl-C unless told otherwise, once a path exists.

    More signals may follow, each once a further path exists.
    """

    def interrupt(
        command: list[str], marker: Path, *more: tuple[int, Path], number: int = signal.SIGINT
    ) -> tuple[int, str, str]:
        # What is started in the background, or by nohup, ignores signals; so would its children.
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGHUP)}
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        try:
            with started(command) as process:
                for each, path in ((number, marker), *more):
                    wait_for(path, process)
                    process.send_signal(each)
                out, err = process.communicate(timeout=60)
                return process.returncode, out, err
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    return interrupt


@pytest.fixture
def calls() -> Callable[..., int]:
    """How many of Python's functions are called: a time that no other process changes."""

    def count(work: Callable[..., object], *given: object) -> int:
        found = 0

        def note(frame: object, event: str, argument: object) -> None:
            nonlocal found
            found += event == "call"

        sys.setprofile(note)
        try:
            work(*given)
        finally:
            sys.setprofile(None)
        return found

    return count


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None:
            pytest.fail(f"ended before it made {path.name}: {process.communicate()[1]}")
        assert time.monotonic() < end, f"{path} was never made"
        time.sleep(0.005)
