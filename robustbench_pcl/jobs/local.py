"""The executor of one machine: one job after the other, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.jobs.plan import Job


def execute(jobs: Sequence[Job], bench: Bench) -> None:
    """Run the jobs whose artefacts are missing, in order."""
    for job in jobs:
        if not job.done(bench):
            job.run(bench)
