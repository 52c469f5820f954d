"""Where tasks run: in this process, as Slurm jobs, as Ray tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from robustbench_pcl.configuration import Description
from robustbench_pcl.pipeline.artefacts import AnyTask, Artefacts
from robustbench_pcl.registry import Family

Work = Sequence[tuple[AnyTask, float]]
"""Tasks in an order that works, each with its share of the whole: about how many seconds."""


class Executor(Description, ABC):
    """A way to run tasks; its fields are what ``--executor-option`` sets.

    Attributes:
        elsewhere: whether tasks run in other processes, perhaps on other machines.
    """

    elsewhere: ClassVar[bool] = False

    @abstractmethod
    def execute(self, work: Work, artefacts: Artefacts) -> None:
        """Run tasks until all their artefacts are stored.

        Args:
            work: in an order that works.
            artefacts: where they are found and made.

        Raises:
            UserError: a task cannot be done.
        """


EXECUTORS: Family[type[Executor]] = Family(
    "executor",
    {
        "local": "robustbench_pcl.pipeline.executors.local:Local",
        "slurm": "robustbench_pcl.pipeline.executors.slurm:Slurm",
        "ray": "robustbench_pcl.pipeline.executors.ray:Ray",
    },
)
