"""A suite on a real Ray of two nodes: the results of one process, whatever is taken away."""

import subprocess
import time

import pytest
from cluster_commands import HERE, jobs, left_over, without_ray

LACKING = without_ray()
pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(LACKING), reason=LACKING)]
TRAININGS = ("train one on digits", "train two on digits")


def test_a_node_that_dies_and_a_worker_that_is_killed(ray, local, command):
    run = command("--executor", "ray")
    for title in TRAININGS:  # one on each node
        run.running(title)
    began = time.time()
    subprocess.run([HERE / "ray_down.sh", ray, "second"], check=True)
    run.hears(": lost (")

    (lost,) = [title for title in TRAININGS if f"{title}: lost (" in run.said()]
    run.kill_workers(run.running(lost, began)["key"])
    run.hears(f"{lost}: failed, sent again (1/3)")

    assert run.results() == local
    assert left_over(run.home) == []


def test_jobs(ray, command):
    run = command("--executor", "ray", "--only", TRAININGS[0])
    key = run.running(TRAININGS[0])["key"]
    assert TRAININGS[0] in jobs(run, "status")
    jobs(run, "logs", TRAININGS[0])
    assert "Cancelled" in jobs(run, "cancel")
    assert run.process.wait(60) == 2
    assert not run.workers(key)
