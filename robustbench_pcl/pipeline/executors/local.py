"""The executor of one machine: one task after the other, in this process."""

from __future__ import annotations

from robustbench_pcl.pipeline.artefacts import Artefacts
from robustbench_pcl.pipeline.executors import Executor, Work


class Local(Executor):
    """One task after the other, in this process."""

    def execute(self, work: Work, artefacts: Artefacts) -> None:
        """Make each artefact in turn; one that is there by now is passed over."""
        total = sum(seconds for _, seconds in work)
        with artefacts.progress.task(f"{len(work)} steps", total) as advance:
            for done, (task, seconds) in enumerate(work, start=1):
                artefacts.make(task)
                advance(seconds, f"{done} done")
