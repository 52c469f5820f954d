"""The executor of one machine: one job after the other, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.jobs.executors.base import Executor
from robustbench_pcl.jobs.plan import Job


class Local(Executor):
    """One job after the other, in this process."""

    def execute(self, jobs: Sequence[tuple[Job, float]], bench: Bench) -> None:
        """Run jobs in order; one whose artefact is there by now is passed over."""
        total = sum(seconds for _, seconds in jobs)
        with bench.progress.task(f"{len(jobs)} steps", total) as advance:
            for done, (job, seconds) in enumerate(jobs, start=1):
                if not job.done(bench):
                    job.run(bench)
                advance(seconds, f"{done} done")
