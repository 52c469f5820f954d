"""Models of digits that are trained once, and what a diagnosis finds of them."""

from pathlib import Path

import pytest
import torch
from diagnosis_toys import WinnersTakeAll, digits, trained
from torch import nn

from robustbench_pcl import Workspace, load_recipe


@pytest.fixture(scope="session")
def clean_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Enough of them: six that are lost are 5 points, and more than chance."""
    return digits(120)


@pytest.fixture(scope="session")
def smooth() -> nn.Module:
    """It hides nothing, and withstands little."""
    return trained()


@pytest.fixture(scope="session")
def rugged() -> nn.Module:
    return trained(lambda: WinnersTakeAll(0.1))


@pytest.fixture(scope="session")
def demo_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where recipes are trained at demo scale, each once."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="session")
def demo_model(demo_home: Path):  # type: ignore[no-untyped-def]
    """A recipe's model at demo scale, with changes."""
    workspace = Workspace(demo_home, device="cpu")

    def make(name: str, **changes: object) -> nn.Module:
        changed = {key.replace("__", "."): value for key, value in changes.items()}
        return workspace.model(load_recipe(name, "digits", "demo", set=changed))

    return make
