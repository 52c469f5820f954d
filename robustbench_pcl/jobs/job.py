"""What a job is, whatever it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.specs.base import digest


@dataclass(frozen=True)
class Job(ABC):
    """A piece of work whose result is an artefact; done when that exists, so it may run twice."""

    @property
    def kind(self) -> str:
        """Its name in ``plan.KINDS``."""
        return type(self).__name__.lower()

    @property
    def key(self) -> str:
        """The same for all jobs that make the same artefact, and a good file name."""
        return f"{self.kind}-{digest(self._made_from())}"

    @property
    @abstractmethod
    def title(self) -> str:
        """What it does, in a few words."""

    @property
    @abstractmethod
    def needs(self) -> tuple[Job, ...]:
        """The jobs whose artefacts it works on."""

    @abstractmethod
    def _made_from(self) -> list[object]:
        """What decides its artefact, as plain JSON types."""

    @abstractmethod
    def done(self, bench: Bench) -> bool:
        """Whether its artefact is stored."""

    @abstractmethod
    def run(self, bench: Bench) -> None:
        """Make its artefact."""
