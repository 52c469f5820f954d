"""Training runs on digits, and what they make."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.data.loader import load
from robustbench_pcl.progress import Progress
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.store.checkpoints import Checkpoint, save_checkpoint
from robustbench_pcl.training.build import arrays_of, restore
from robustbench_pcl.training.trainer import Run


class Spoken(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits", None)


@pytest.fixture
def run(digits: Dataset, tmp_path: Path) -> Callable[..., Run]:
    """Make a run of a recipe on the processor, with a state of its own."""

    def make(recipe: Recipe, **options: object) -> Run:
        given = {"partial": tmp_path / "partial", "progress": Spoken(), **options}
        return Run(recipe, digits, torch.device("cpu"), **given)

    return make


@pytest.fixture(scope="session")
def trained(
    digits: Dataset, tiny: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Checkpoint]:
    """The checkpoint of a tiny recipe by its name, trained once in one go."""
    folder, made = tmp_path_factory.mktemp("trained"), {}

    def checkpoint(name: str) -> Checkpoint:
        if name not in made:
            recipe = tiny(name)
            start = restore(checkpoint("softmax")) if recipe.start else None
            run = Run(recipe, digits, torch.device("cpu"), folder / "partial", Progress())
            arrays = arrays_of(run.execute(start).model)
            identity = recipe.id(digits.train.digest)
            made[name] = save_checkpoint(folder, recipe, identity, arrays)
        return made[name]

    return checkpoint
