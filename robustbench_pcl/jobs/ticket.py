"""A job as a small JSON file, for a process on any machine that sees the same folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from robustbench_pcl.errors import UserError
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.jobs.plan import KINDS, Job
from robustbench_pcl.plugins import load, loaded
from robustbench_pcl.progress import Progress
from robustbench_pcl.specs.base import Spec
from robustbench_pcl.store.atomic import write_bytes


class Ticket(Spec):
    """A job and the bench that it runs on.

    Attributes:
        kind: name in ``KINDS``.
        job: the job's own fields.
        home: of the artefacts.
        device: as it was asked for, so that ``auto`` is decided where the job runs.
        data_root: folder with torchvision-format files, or None.
        images: test images to attack and measure; the scale's own number if None.
        seed: of attacks.
        exact: no shortcut is taken in attacks.
        opened: checkpoints that were taken from files of the user's.
        plugins: modules to import first, each with the folder it is looked for in.
    """

    kind: str
    job: dict[str, Any]
    home: Path
    device: str = "auto"
    data_root: Path | None = None
    images: int | None = None
    seed: int = 0
    exact: bool = False
    opened: tuple[Path, ...] = ()
    plugins: tuple[tuple[str, Path], ...] = ()

    @classmethod
    def of(cls, job: Job, bench: Bench) -> Self:
        """The ticket of a job. A job has the accelerators that it sees: they are not numbered."""
        return cls(
            kind=job.kind,
            job=TypeAdapter(type(job)).dump_python(job, mode="json"),
            home=bench.home.root.resolve(),
            device=bench.device_name.partition(":")[0],
            data_root=bench.data_root.resolve() if bench.data_root else None,
            images=bench.images,
            seed=bench.seed,
            exact=bench.exact,
            opened=tuple(path.resolve() for path in bench.opened),
            plugins=tuple(loaded().items()),
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """The ticket in a file.

        Raises:
            UserError: there is none, or it is damaged.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise UserError(
                f"Cannot read the job {path} ({str(error).splitlines()[0]}).",
                "Give the command that sent it again.",
            ) from error

    def write(self, path: Path) -> None:
        """Store the ticket."""
        write_bytes(path, self.model_dump_json(indent=2).encode())

    def open(self, progress: Progress | None = None) -> tuple[Job, Bench]:
        """The job, and the bench to run it on.

        Raises:
            UserError: a plugin or a checkpoint that it needs cannot be read here.
        """
        for module, folder in self.plugins:
            load(module, folder)
        job: Job = TypeAdapter(KINDS[self.kind]).validate_python(self.job)
        bench = Bench(
            self.home,
            device=self.device,
            data_root=self.data_root,
            images=self.images,
            seed=self.seed,
            exact=self.exact,
            progress=progress,
        )
        for path in self.opened:
            bench.open(path)
        return job, bench
