"""Find or make: a folder of artefacts, and the tasks that make them."""

from __future__ import annotations

import contextlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.data.loader import dataset_info, load
from robustbench_pcl.environment import pick_device
from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.progress import Progress
from robustbench_pcl.recipe import AnyModel, ExternalModel
from robustbench_pcl.store.adversarial_sets import SetSpecification
from robustbench_pcl.store.atomic import sweep
from robustbench_pcl.store.checkpoints import (
    Checkpoint,
    changed,
    checkpoint_ids,
    find_checkpoint,
    open_checkpoint,
)
from robustbench_pcl.store.claims import claimed, remove_dead
from robustbench_pcl.store.formats import check_format
from robustbench_pcl.store.published import require_workspace
from robustbench_pcl.store.records import Paths

if TYPE_CHECKING:
    import numpy as np
    from torch import device as Device
    from torch import nn

    from robustbench_pcl.evaluation import measure
    from robustbench_pcl.models import external
    from robustbench_pcl.training import build
else:
    external = LazyModule("robustbench_pcl.models.external")
    measure = LazyModule("robustbench_pcl.evaluation.measure")
    build = LazyModule("robustbench_pcl.training.build")

MODELS_KEPT = 4
A = TypeVar("A")


def remove_leftovers(paths: Paths) -> None:
    """Remove what killed processes left in a workspace: nothing that a command would go on with."""
    remove_dead(paths.claims)
    folders = set(vars(paths).values()) - {paths.root}
    for folder in (*folders, *paths.adversarial_sets.glob("[!.]*.parts")):
        sweep(folder)
    for parts in paths.adversarial_sets.glob("[!.]*.parts"):
        if parts.with_suffix(".h5").exists():  # killed between the two: the set is whole
            shutil.rmtree(parts, ignore_errors=True)
    for state in paths.partial.glob("[!.]*.safetensors"):
        if any(paths.checkpoints.glob(f"[!.]*-{escape(state.stem)}-*.safetensors")):
            with contextlib.suppress(OSError):
                state.unlink()


class Artefacts:
    """A folder of artefacts and the device that makes new ones.

    Checkpoints are looked up once; a few models stay in memory.

    Args:
        folder: holds ``checkpoints/`` and ``results/``.
        device: "auto", "cpu", "cuda", "cuda:1".
        data_root: folder with files in torchvision's layout; PCLBENCH_DATA if None.
        progress: the progress reporter.

    Attributes:
        paths: where artefacts are.
        progress: the progress reporter.
        device_name: the device as it was asked for.
        data_root: as given.
        specifications: what adversarial sets are made from, by the keys of their tasks.

    Raises:
        UserError: what is stored in the folder has another version's format.
    """

    def __init__(
        self,
        folder: Path | str = "",
        *,
        device: str = "auto",
        data_root: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.paths = Paths(Path(folder))
        check_format(self.paths)
        require_workspace(self.paths)
        self.progress = progress or Progress()
        self.device_name = device
        self.data_root = data_root
        self.specifications: dict[str, SetSpecification] = {}
        self._passed_over: set[str] = set()
        self._datasets: dict[str, Dataset] = {}
        self._checkpoints: dict[str, Checkpoint] = {}
        self._listed: set[str] | None = None
        self._models: dict[str, nn.Module] = {}
        self._cleaned = False
        self._clean: dict[tuple[str, int], tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = {}

    @cached_property
    def device(self) -> Device:
        """The device that computes.

        Raises:
            UserError: there is no such device here.
        """
        return pick_device(self.device_name)

    def pass_over(self, error: UserError) -> None:
        """Say once that a file is left out, and what to do about it."""
        if error.cause not in self._passed_over:
            self._passed_over.add(error.cause)
            self.progress.say(f"Left out: {error.cause}\n  {error.cure}")

    def open(self, path: Path | str) -> AnyModel:
        """Take a checkpoint from a file; its recipe or external model then stands for it.

        Raises:
            UserError: the file is not a checkpoint of ours, or another one with other weights
                stands for its recipe already.
        """
        checkpoint = open_checkpoint(Path(path))
        recipe = checkpoint.record.recipe
        known = self._checkpoints.setdefault(recipe.id(""), checkpoint)
        if known.record.weights != checkpoint.record.weights:
            raise UserError(
                f"{path} and {known.path} hold different weights of one recipe.",
                "Name one at a time, or train one of them with another --seed.",
            )
        return recipe

    def find(self, task: Task[A]) -> A | None:
        """The stored artefact of a task, or None. Nothing is fetched or made.

        Where its data set is not cached, nothing is known of it, since pixels are part of ids.
        """
        cached = task.dataset in self._datasets or dataset_info(task.dataset) is not None
        return task.find(self) if cached else None

    def has(self, task: AnyTask) -> bool:
        """Whether the artefact of a task is stored, as far as :meth:`find` knows."""
        cached = task.dataset in self._datasets or dataset_info(task.dataset) is not None
        return cached and task.is_stored(self)

    @contextlib.contextmanager
    def listed(self) -> Iterator[None]:
        """Within the block checkpoints are looked for among those that are there when it begins.

        A plan asks for many that are not there, and a folder may hold many.
        """
        self._listed = checkpoint_ids(self.paths.checkpoints)
        try:
            yield
        finally:
            self._listed = None

    def make(self, task: Task[A]) -> A:
        """The artefact of a task, made now unless it is stored; what it needs is made first.

        While another process makes it, this one waits, and says for whom; it takes over if the
        other dies.

        Raises:
            UserError: it cannot be made; the message says why.
        """
        self.dataset(task.dataset)
        found = task.find(self)
        if found is not None:
            return found
        self.clean()

        def waiting(other: str) -> None:
            self.progress.say(f"waiting for {task.title}: {other} makes it")

        def done() -> bool:
            return task.find(self) is not None

        with claimed(self.paths.claims, task.claim(self), waiting=waiting, done=done):
            found = task.find(self)
            return task.compute(self) if found is None else found

    def clean(self) -> None:
        """Remove what killed processes left: temporary files, claims, and what was in the making.

        Once: what others leave meanwhile is theirs to remove, or the next process's.
        """
        if not self._cleaned:
            self._cleaned = True
            remove_leftovers(self.paths)

    def dataset(self, name: str) -> Dataset:
        """A data set, fetched now unless it is cached.

        Raises:
            UserError: it is unknown or was not found.
        """
        if name not in self._datasets:
            self._datasets[name] = load(name, self.data_root)
        return self._datasets[name]

    def checkpoint(self, recipe: AnyModel) -> Checkpoint | None:
        """The checkpoint of a recipe or an external model, or None.

        Recipes that differ in their name or in how they decide a class share a checkpoint; its
        record then names the one that was asked for. Where the recipe was trained to different
        weights, the first by file name is used, and the progress reporter says so.

        Raises:
            UserError: the file is damaged, or its recipe is not the one that its id stands for.
        """
        key = recipe.id("")
        if key not in self._checkpoints:
            external = isinstance(recipe, ExternalModel)
            data = "" if external else self.dataset(recipe.dataset).train.digest
            identity = recipe.id(data)
            if self._listed is not None and identity not in self._listed:
                return None
            found = find_checkpoint(self.paths.checkpoints, identity)
            if found is None:
                return None
            if found.record.recipe.id(data) != identity:
                raise changed(found.path, "its recipe is not the one that its id stands for")
            if found.others:
                others = ", ".join(other.path.name for other in found.others)
                self.progress.say(
                    f"{recipe.name}: {found.path.name} is used; other weights of the same recipe: "
                    f"{others}. To use those, name the file."
                )
            self._checkpoints[key] = found
        known = self._checkpoints[key]
        return known if known.record.recipe == recipe else known.standing_for(recipe)

    @property
    def known(self) -> list[Path]:
        """The files of the checkpoints that were opened or found so far."""
        return [checkpoint.path for checkpoint in self._checkpoints.values()]

    def restored(self, checkpoint: Checkpoint) -> nn.Module:
        """A checkpoint's model in eval mode on the device, kept for the next task.

        Raises:
            UserError: the file is damaged, or an external model's code is gone or has changed.
        """
        key = checkpoint.record.key
        if key not in self._models:
            while len(self._models) >= MODELS_KEPT:
                self._models.pop(next(iter(self._models)))
            came_in = isinstance(checkpoint.record.recipe, ExternalModel)
            self._models[key] = (external if came_in else build).restore(checkpoint, self.device)
        return self._models[key]

    def clean_answers(
        self, checkpoint: Checkpoint, n: int
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """A model's classes and logit margins, (n,), of the first clean test images, kept."""
        key = checkpoint.record.key, n
        if key not in self._clean:
            dataset = self.dataset(checkpoint.record.recipe.dataset)
            model = self.restored(checkpoint)
            self._clean[key] = measure.clean_answers(model, dataset, n, self.device)
        return self._clean[key]


class Task(ABC, Generic[A]):
    """One artefact to find or make; it is done when that is stored, so it may run twice.

    A kind of task is a frozen dataclass of what it is about; what follows from that is settled when
    it is made.

    Attributes:
        kind: its name among the kinds of tasks.
        key: the same for all tasks that make the same artefact, and a good file name.
        title: what it does, in a few words.
        dataset: the name of its data set.
        needs: the tasks whose artefacts it works on.
    """

    kind: ClassVar[str]
    key: str
    title: str
    dataset: str
    needs: tuple[AnyTask, ...]

    def claim(self, artefacts: Artefacts) -> str:  # noqa: ARG002 - some ask what is stored
        """The same for all tasks that would write the same files, and a good file name."""
        return self.key

    @property
    def models(self) -> tuple[AnyModel, ...]:
        """All models that it asks; none where it only makes something of one."""
        return ()

    @abstractmethod
    def find(self, artefacts: Artefacts) -> A | None:
        """Its stored artefact, or None; its data set is cached."""

    def is_stored(self, artefacts: Artefacts) -> bool:
        """Whether its artefact is there; files are opened only where ids depend on them."""
        return self.find(artefacts) is not None

    @abstractmethod
    def compute(self, artefacts: Artefacts) -> A:
        """Make its artefact and store it."""


AnyTask = Task[Any]
