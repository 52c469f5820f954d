"""A task as a small JSON file, and the process that does it, on any machine with the same folders.

``python -m robustbench_pcl.pipeline.worker TASK.json`` does one; with a folder instead it does
those in it that its standard input names, so that Python and torch start once for all of them.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, Self

from pydantic import TypeAdapter, ValidationError

from robustbench_pcl.configuration import Description, explained
from robustbench_pcl.environment import has_accelerator
from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.interruption import exit_code, raising, said
from robustbench_pcl.pipeline.artefacts import AnyTask, Artefacts
from robustbench_pcl.pipeline.planner import KINDS
from robustbench_pcl.pipeline.runs import write_where
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.plugins import LOADED, load, load_installed
from robustbench_pcl.progress import Progress, TerminalProgress
from robustbench_pcl.store.atomic import write_bytes
from robustbench_pcl.store.formats import LARGEST_RECORD
from robustbench_pcl.store.reading import parse_json, read_bounded

Workspaces = dict[tuple[Path, str, Path | None], Workspace]
"""Open workspaces by folder, device and folder of data."""


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
            task=_adapter(task.kind).dump_python(task, mode="json"),
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

    def open(
        self, progress: Progress | None = None, opened: Workspaces | None = None
    ) -> tuple[AnyTask, Workspace]:
        """The task, and the workspace to do it in.

        Args:
            progress: the progress reporter.
            opened: workspaces that are open already; one that is opened now is added.

        Raises:
            UserError: a plugin or a checkpoint that it needs cannot be read here.
        """
        for module, folder in self.plugins:
            load(module, folder)
        try:
            task = _adapter(self.kind).validate_python(self.task)
        except KeyError as error:
            raise unknown_name("kind of task", self.kind, KINDS) from error
        except ValidationError as error:
            cure = "Give the command that sent it again."
            raise explained(error, "The task is none that this pclbench knows", cure) from error
        place = (self.folder, self.device, self.data_root)
        known = opened if opened is not None else {}
        if place not in known:
            known[place] = Workspace(
                self.folder, device=self.device, data_root=self.data_root, progress=progress
            )
        workspace = known[place]
        for path in {*self.checkpoints} - {*workspace.known}:
            workspace.open(path)
        return task, workspace


@cache
def _adapter(kind: str) -> TypeAdapter[AnyTask]:
    """What reads and writes a kind of tasks; making one takes longer than a small task's file."""
    return TypeAdapter(KINDS[kind])


def main(path: str, opened: Workspaces | None = None) -> int:
    """Do the task in a file unless its artefact is stored, having said beside it where.

    Args:
        path: the file.
        opened: the workspaces that this process has opened; another one is added.

    Returns:
        The exit code.
    """
    try:
        load_installed()
        file = TaskFile.read(Path(path))
        write_where(Path(path).with_suffix(".where"), _device(file.device))
        task, workspace = file.open(TerminalProgress(), opened)
        workspace.make(task)
    except UserError as error:
        print(f"pclbench: {error}", file=sys.stderr)
        return 2
    return 0


def _device(name: str) -> str:
    """What will compute, and which one of several, without importing torch."""
    if name == "cuda" or (name == "auto" and has_accelerator()):
        return f"cuda {os.environ.get('CUDA_VISIBLE_DEVICES', '')}".strip()
    return "cpu"


def serve(folder: Path) -> NoReturn:
    """Do the tasks whose files in a folder standard input names, one by one, until it ends.

    What one prints goes to its log; when it ended, there is a file that ends in ``.ended``. What is
    no :class:`UserError` ends the process, and so does the end of standard input, whatever is being
    done: then the process that sent the tasks is gone. An interrupted training is kept.
    """
    files: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(files,), daemon=True).start()
    opened: Workspaces = {}
    while True:
        path = folder / files.get()
        with path.with_suffix(".log").open("ab") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        main(str(path), opened)
        sys.stdout.flush()
        path.with_suffix(".ended").touch()


def _listen(files: queue.SimpleQueue[str]) -> None:
    """Pass the lines of standard input on; interrupt this process when there are no more."""
    with open(0, "rb", buffering=0, closefd=False) as lines:
        for line in lines:
            files.put(os.fsdecode(line.rstrip(b"\n")))
    os.kill(os.getpid(), signal.SIGTERM)


def begin(place: str) -> int:
    """Do the task in a file, or those in a folder; the exit code.

    A signal that asks the process to end keeps what was done of the task, as in a command.
    """
    try:
        with raising():
            if Path(place).is_dir():
                serve(Path(place))
            return main(place)
    except KeyboardInterrupt as interrupt:
        print(f"pclbench: {said(interrupt)}", file=sys.stderr)
        return exit_code(interrupt)


if __name__ == "__main__":
    sys.exit(begin(sys.argv[1]))
