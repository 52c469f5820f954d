"""A task as a small JSON file, and the process that does it, on any machine with the same folders.

``python -m robustbench_pcl.pipeline.worker TASK.json``
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from robustbench_pcl.configuration import Description, explained
from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.pipeline.artefacts import AnyTask, Artefacts
from robustbench_pcl.pipeline.planner import KINDS
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.plugins import LOADED, load, load_installed
from robustbench_pcl.progress import Progress, TerminalProgress
from robustbench_pcl.store.atomic import write_bytes
from robustbench_pcl.store.formats import LARGEST_RECORD
from robustbench_pcl.store.reading import parse_json, read_bounded


class TaskFile(Description):
    """A task and the workspace that it is done in.

    Attributes:
        kind: name in ``KINDS``.
        task: the task's own fields.
        folder: the workspace's.
        device: as it was asked for, so that "auto" is decided where the task runs.
        data_root: folder with files in torchvision's layout, or None.
        checkpoints: files of checkpoints that stand for their recipes.
        plugins: modules to import first, each with the folder it is looked for in.
    """

    kind: str
    task: dict[str, Any]
    folder: Path
    device: str = "auto"
    data_root: Path | None = None
    checkpoints: tuple[Path, ...] = ()
    plugins: tuple[tuple[str, Path], ...] = ()

    @classmethod
    def of(cls, task: AnyTask, artefacts: Artefacts) -> Self:
        """The file of a task. It has the accelerators that it sees: they are not numbered."""
        root = artefacts.data_root
        return cls(
            kind=task.kind,
            task=TypeAdapter(KINDS[task.kind]).dump_python(task, mode="json"),
            folder=artefacts.paths.root.resolve(),
            device=artefacts.device_name.partition(":")[0],
            data_root=root.resolve() if root else None,
            checkpoints=tuple(path.resolve() for path in artefacts.known),
            plugins=tuple(LOADED.items()),
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """The file at a path.

        Raises:
            UserError: there is none, or it is damaged.
        """
        what, cure = f"Cannot read the task {path}", "Give the command that sent it again."
        content = parse_json(read_bounded(path, LARGEST_RECORD, "task"), what, cure)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise explained(error, what, cure) from error

    def write(self, path: Path) -> None:
        """Store it."""
        write_bytes(path, self.model_dump_json(indent=2).encode())

    def open(self, progress: Progress | None = None) -> tuple[AnyTask, Workspace]:
        """The task, and the workspace to do it in.

        Raises:
            UserError: a plugin or a checkpoint that it needs cannot be read here.
        """
        for module, folder in self.plugins:
            load(module, folder)
        try:
            task = TypeAdapter(KINDS[self.kind]).validate_python(self.task)
        except KeyError as error:
            raise unknown_name("kind of task", self.kind, KINDS) from error
        except ValidationError as error:
            cure = "Give the command that sent it again."
            raise explained(error, "The task is none that this pclbench knows", cure) from error
        workspace = Workspace(
            self.folder, device=self.device, data_root=self.data_root, progress=progress
        )
        for path in self.checkpoints:
            workspace.open(path)
        return task, workspace


def main(path: str) -> int:
    """Do the task in a file unless its artefact is stored; the exit code."""
    try:
        load_installed()
        task, workspace = TaskFile.read(Path(path)).open(TerminalProgress())
        workspace.make(task)
    except UserError as error:
        print(f"pclbench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
