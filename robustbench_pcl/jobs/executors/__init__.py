"""Where jobs run: in this process, as Slurm jobs, as Ray tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustbench_pcl.registry import Family

if TYPE_CHECKING:
    from robustbench_pcl.jobs.executors.base import Executor

EXECUTORS: Family[type[Executor]] = Family(
    "executor",
    {
        "local": "robustbench_pcl.jobs.executors.local:Local",
        "slurm": "robustbench_pcl.jobs.executors.slurm:Slurm",
        "ray": "robustbench_pcl.jobs.executors.ray:Ray",
    },
)
