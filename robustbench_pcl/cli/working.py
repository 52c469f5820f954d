"""What the commands that make artefacts share: announce the work, do it, show measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from robustbench_pcl.cli.console import Format, print_rows, say

if TYPE_CHECKING:
    from robustbench_pcl.jobs.bench import Bench
    from robustbench_pcl.jobs.executors.base import Executor
    from robustbench_pcl.jobs.plan import Job, Measure
    from robustbench_pcl.store.records import Measurement


def work(jobs: Sequence[Job], bench: Bench, executor: Executor | None = None) -> None:
    """Run what is missing, having said how much it is and about how long it takes here.

    Args:
        jobs: what is wanted; what these need is made first.
        bench: where they run.
        executor: how; None for one after the other in this process.
    """
    from robustbench_pcl.jobs.estimate import Estimator
    from robustbench_pcl.jobs.executors.local import Local
    from robustbench_pcl.jobs.plan import lacking, plan
    from robustbench_pcl.progress import PATIENCE_SECONDS, spoken
    from robustbench_pcl.store.atomic import require_writable

    known, missing = plan(jobs), lacking(jobs, bench)
    if not missing:
        return
    require_writable(bench.home.root)
    if executor is not None and executor.elsewhere:
        say(
            f"{len(missing)} of {len(known)} steps to send. Ctrl-C stops; the same command goes on."
        )
        executor.execute([(job, 1.0) for job in missing], bench)
        return
    estimator = Estimator(bench)
    costs = [estimator.seconds(job) for job in missing]
    if sum(costs) > PATIENCE_SECONDS:
        say(
            f"{len(missing)} of {len(known)} steps to do, about {spoken(sum(costs))} on "
            f"{bench.device}. Ctrl-C stops; the same command goes on."
        )
    (executor or Local()).execute(list(zip(missing, costs, strict=True)), bench)


def measured(
    jobs: Sequence[Measure], bench: Bench, executor: Executor | None = None
) -> list[Measurement]:
    """Plan, run, and return the measurements in the order asked for."""
    work(jobs, bench, executor)
    return [
        bench.measure(job.target, job.source, job.attack, until_fooled=job.until_fooled)
        for job in jobs
    ]


def show_measurements(measurements: Sequence[Measurement], form: Format) -> None:
    """Print measurements, one a row."""
    print_rows([_row(measurement, form) for measurement in measurements], form)


def _row(measurement: Measurement, form: Format) -> dict[str, Any]:
    attack = measurement.attack
    parameters = attack.parameters if attack else {}
    if form is not Format.table:
        return {
            "dataset": measurement.data.dataset,
            "target": measurement.target.recipe.name,
            "source": measurement.source.recipe.name if measurement.source else None,
            "attack": attack.name if attack else None,
            "parameters": " ".join(f"{key}={value}" for key, value in parameters.items()),
            "crafting": measurement.crafting if attack else None,
            "precision": measurement.precision if attack else None,
            "scale": measurement.target.recipe.scale,
            "n": measurement.n,
            "correct": measurement.correct,
            "accuracy": measurement.accuracy,
            "low": measurement.interval[0],
            "high": measurement.interval[1],
            "largest_linf": measurement.largest_linf,
            "mean_l2": measurement.mean_l2,
            "measurement": measurement.id,
            "adversarial_set": measurement.adversarial_set,
        }
    from robustbench_pcl.jobs.plan import describe

    low, high = (100 * value for value in measurement.interval)
    source, target = measurement.source, measurement.target
    name = source.recipe.name if source else ""
    return {
        "target": target.recipe.name,
        "source": "white-box" if source and source.key == target.key else name,
        "attack": describe(attack) if attack else "none",
        "accuracy": f"{100 * measurement.accuracy:.1f} %",
        "95 % interval": f"{low:.1f} to {high:.1f}",
        "n": measurement.n,
        "Linf": f"{measurement.largest_linf:.4f}",
    }
