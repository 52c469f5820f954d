"""Estimates: from stored speeds or a table, quickly, and honest where nothing is known."""

import os
import subprocess
import sys

import pytest

from robustbench_pcl import CW, FGSM, PGD, Workspace, load_recipe
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.environment import processor
from robustbench_pcl.paper.figures import FIGURES
from robustbench_pcl.paper.tables import published_numbers
from robustbench_pcl.pipeline.diagnosing import Diagnose
from robustbench_pcl.pipeline.estimate import Estimator
from robustbench_pcl.pipeline.planner import figure_tasks, plan, table_tasks
from robustbench_pcl.pipeline.tasks import Embed, Generate, Measure, Train
from robustbench_pcl.store.embeddings import View
from robustbench_pcl.store.records import (
    load_trainings,
    save_measurement,
    save_record,
    save_training,
)

PGD_01 = PGD(eps=0.1)


@pytest.fixture
def empty(tmp_path):
    return Workspace(tmp_path, device="cpu")


@pytest.mark.parametrize(
    "tasks",
    [
        *[
            pytest.param((table_tasks, number), id=f"table {number}")
            for number in published_numbers()
        ],
        *[pytest.param((figure_tasks, number), id=f"figure {number}") for number in FIGURES],
    ],
)
def test_everything_in_the_paper_is_estimated_from_the_table(empty, tasks):
    planner, number = tasks
    estimator = Estimator(empty)
    for task in plan(planner(number, "digits", "demo")):
        assert 0 < estimator.seconds(task) < 10_000, task.title


def test_estimates_grow_with_the_work(empty, tiny):
    seconds = Estimator(empty).seconds
    base = Generate(tiny(), PGD_01, 50)
    assert seconds(Generate(tiny(), PGD_01, 500)) == pytest.approx(10 * seconds(base))
    assert seconds(base) == pytest.approx(10 * seconds(Generate(tiny(), FGSM(eps=0.1), 50)))
    assert seconds(Generate(tiny(), PGD_01, 50, mode="early-stop")) < seconds(base)
    assert seconds(Generate(tiny(), PGD_01, 50, mode="exact")) > seconds(base)
    assert seconds(Generate(tiny(), CW(search_steps=9, steps=10), 50)) > 5 * seconds(base)
    assert seconds(Train(tiny("ours-pgd"))) > seconds(Train(tiny("ours")))
    assert seconds(Train(tiny(train_images=10**6))) == pytest.approx(
        seconds(Train(tiny(train_images=None)))
    )  # there are no more than that
    view = Embed(tiny("ours"), View(layer=5), 50)
    assert seconds(Embed(tiny("ours"), View(layer=5, method="tsne"), 50)) > seconds(view)


def test_what_was_measured_here_counts_before_the_table(tiny_workspace, tiny):
    measured = tiny_workspace.measure(tiny(), PGD_01, images=20, mode="exact")
    slow = measured.changed(seconds=1000.0)
    save_measurement(tiny_workspace.paths, slow)
    seconds = Estimator(tiny_workspace).seconds
    assert seconds(Generate(tiny(), PGD_01, 40, mode="exact")) == pytest.approx(2000.0)
    passes = 1000.0 / slow.backward_passes
    other = Generate(tiny(), PGD(eps=0.2, steps=3), 40, mode="exact")  # the same network
    assert seconds(other) == pytest.approx(40 * 3 * passes)
    assert seconds(Measure(tiny(), tiny(), PGD_01, 40)) == pytest.approx(40 * 2 / 3 * passes)


def test_a_training_takes_as_long_as_the_last_of_its_kind(tiny_workspace, tiny, tiny_home):
    (record,) = [
        record
        for record in load_trainings(Workspace(tiny_home).paths)
        if record.recipe.name == "ours"
    ]
    history = [{**entry, "seconds": 50.0} for entry in record.history]
    save_training(tiny_workspace.paths, record.changed(seconds_per_epoch=50.0, history=history))
    longer = tiny("ours", seed=3, schedule=tiny().schedule.changed(epochs=10))
    assert Estimator(tiny_workspace).seconds(Train(longer)) == pytest.approx(500.0)
    other = Estimator(tiny_workspace).seconds(Train(tiny("ours-pgd")))
    assert other < 500.0  # of another kind: from the table


def test_a_diagnosis_takes_as_long_as_the_last_of_its_network(tiny_workspace, tiny):
    estimated = Estimator(tiny_workspace).seconds
    few = estimated(Diagnose(tiny(), PGD_01, 50))
    assert estimated(Diagnose(tiny(), PGD_01)) == pytest.approx(4 * few)  # the scale's 200 images
    made = tiny_workspace.diagnose(tiny(), PGD_01, images=10)
    slow = made.changed(seconds=40.0)
    save_record(tiny_workspace.paths.diagnoses, slow.id, slow)
    again = Estimator(tiny_workspace).seconds(Diagnose(tiny(), PGD(eps=0.2), 30))
    assert again == pytest.approx(120.0)


def test_nothing_is_known_of_an_accelerator_before_anything_ran_on_one(tiny_workspace, tiny):
    workspace = Workspace(tiny_workspace.paths.root, device="cuda")
    train, generate = Train(tiny("ours")), Generate(tiny(), PGD_01, 40)
    assert Estimator(workspace).seconds(train) is None
    assert Estimator(workspace).seconds(generate) is None
    measured = tiny_workspace.measure(tiny(), PGD_01, images=20)
    elsewhere = measured.environment.changed(device="Some GPU")
    assert processor() != "Some GPU"
    save_measurement(workspace.paths, measured.changed(seconds=20.0, environment=elsewhere))
    assert Estimator(workspace).seconds(generate) == pytest.approx(40.0)


def test_nothing_is_known_of_a_model_or_a_defense_from_outside(empty, tiny):
    seconds = Estimator(empty).seconds
    assert seconds(Train(tiny(model="mine"))) is None
    assert seconds(Train(tiny(defense={"name": "mine"}))) is None
    assert seconds(Generate(tiny(model="mine"), PGD_01)) is None
    assert seconds(Measure(tiny(model="mine"))) is None
    assert seconds(Embed(tiny(model="mine"), View(layer=5))) is None
    assert seconds(Diagnose(tiny(model="mine"), PGD_01)) is None


def test_estimates_at_full_scale_are_of_all_images(empty):
    recipe = load_recipe("softmax", "mnist", "paper")
    data = dataset_spec("mnist")
    seconds = Estimator(empty).seconds
    one = seconds(Measure(recipe, images=1))
    assert seconds(Measure(recipe)) == pytest.approx(data.test_images * one)


PLAN = """
from robustbench_pcl import Workspace
from robustbench_pcl.pipeline.estimate import Estimator
from robustbench_pcl.pipeline.planner import plan, table_tasks
import sys
workspace = Workspace(sys.argv[1])
estimator = Estimator(workspace)
for task in plan(table_tasks(3, "digits", "demo")):
    assert workspace.find(task) is None
    estimator.seconds(task)
assert "torch" not in sys.modules
"""


def test_showing_a_plan_takes_at_most_two_seconds_more_than_the_start_of_python(tmp_path):
    def took(program, *arguments):
        """Processor time, which other processes do not change."""
        before = os.times()
        subprocess.run([sys.executable, "-c", program, *arguments], check=True)
        after = os.times()
        return after.children_user + after.children_system - sum(before[2:4])

    assert took(PLAN, str(tmp_path)) <= took("pass") + 2
    assert not (tmp_path / "results").exists()
