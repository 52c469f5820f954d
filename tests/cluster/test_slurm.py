"""A suite on a real Slurm of two nodes: the results of one process, whatever is taken away."""

import subprocess
import time

import pytest
from cluster_commands import HERE, evidence, jobs, left_over, until, without_slurm

LACKING = without_slurm()
pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(LACKING), reason=LACKING)]
TRAIN = "train one on digits"


def slurm_says(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


def node_of(job):
    return slurm_says("squeue", "--noheader", "--jobs", job, "--format=%N").strip()


def test_tasks_killed_requeued_out_of_time_and_on_lost_nodes(slurm, local, command):
    run = command("--executor", "slurm", "--executor-option", "minutes=30")

    run.kill_workers(run.running(TRAIN)["key"])
    run.hears(f"{TRAIN}: failed, sent again (1/3)")

    began = time.time()
    job = run.running(TRAIN, began)["identity"]
    slurm_says("scontrol", "requeue", job)
    run.hears(f"{TRAIN}: lost (requeued by Slurm), sent again")

    began = time.time()
    node = node_of(run.running(TRAIN, began)["identity"])
    slurm_says("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    until(lambda: run.said().count(f"{TRAIN}: lost") == 2, "the node's task is sent again")
    back = ["scontrol", "update", f"nodename={node}", "state=resume"]
    subprocess.run(back, capture_output=True, check=False)  # it may have come back by itself

    assert run.results() == local
    assert left_over(run.home) == []
    (task,) = [task for task in run.tasks() if task["title"] == TRAIN]
    assert (task["state"], task["attempt"], task["losses"]) == ("done", 2, 2)
    assert not slurm_says("squeue", "--me", "--noheader")


def test_a_node_that_dies_and_comes_back(slurm, local, command):
    run = command("--executor", "slurm", "--only", TRAIN)
    node = node_of(run.running(TRAIN)["identity"])
    daemon = (slurm / "run" / f"slurmd-{node}.pid").read_text().strip()
    subprocess.run(["kill", "-9", daemon], check=True)
    until(lambda: "down" in slurm_says("sinfo", "-hN", "-n", node, "-o", "%t"), f"{node} is down")
    subprocess.run([HERE / "slurm_up.sh", slurm], check=True, capture_output=True, timeout=120)
    results = run.results()
    assert {**local, **results, "tables": ""} == {**local, "tables": ""}
    assert len(evidence(run.home)) == 1
    assert left_over(run.home) == []


@pytest.mark.parametrize("alive", [True, False], ids=["sender lives", "sender was killed"])
def test_jobs(alive, slurm, command):
    run = command("--executor", "slurm", "--only", TRAIN)
    job = run.running(TRAIN)["identity"]
    assert TRAIN in jobs(run, "status")
    jobs(run, "logs", TRAIN)
    if not alive:
        run.process.kill()
        run.process.wait()
    assert "Cancelled" in jobs(run, "cancel")
    until(lambda: not slurm_says("squeue", "--noheader", "--me"), "the queue is empty")
    assert slurm_says("squeue", "-h", "--states=all", "--jobs", job, "-o", "%T") == "CANCELLED\n"
    assert run.process.wait(60) == (2 if alive else -9)
