"""A suite on a real Ray of two nodes: the results of one process, whatever is taken away."""

import subprocess

import pytest
from cluster_commands import HERE, jobs, left_over, until, without_ray

LACKING = without_ray()
pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(LACKING), reason=LACKING)]
TRAININGS = ("train one on digits", "train two on digits")


def test_a_worker_that_is_killed_and_a_node_that_dies(ray, local, command):
    run = command("--executor", "ray")
    run.kill_worker(run.running(TRAININGS[0])["key"])
    run.hears(f"{TRAININGS[0]}: failed, sent again (1/3)")

    for title in TRAININGS:  # one on each node
        run.running(title)
    subprocess.run([HERE / "ray_down.sh", ray, "second"], check=True)
    until(lambda: "lost (" in run.said(), "the node's task is sent again")

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
