"""Recipes for other epochs, another learning rate or another precision."""

import pytest

from robustbench_pcl.recipes.named import named_recipe, recipe_names, rescheduled


def test_rescheduling_keeps_the_decays_in_proportion():
    ours = named_recipe("ours", "cifar10", "paper")
    shorter = rescheduled(ours, 30, None)
    assert (shorter.schedule.epochs, shorter.schedule.milestones) == (30, (20, 25))
    assert shorter.schedule.learning_rate == ours.schedule.learning_rate
    assert shorter.start == ours.start
    shortest = rescheduled(ours, 1, None)
    assert shortest.schedule.milestones == (1, 1)
    assert shorter.id("data") != ours.id("data")


def test_rescheduling_the_learning_rate():
    ours = named_recipe("ours", "cifar10", "paper")
    faster = rescheduled(ours, None, 0.5)
    schedule = ours.schedule.model_copy(update={"learning_rate": 0.5})
    assert faster == ours.model_copy(update={"name": "ours-lr0.5", "schedule": schedule})


def test_another_precision_is_also_that_of_the_start():
    ours = named_recipe("ours", "cifar10", "paper")
    exact = rescheduled(ours, None, None, "float32")
    assert (exact.name, exact.start.name) == ("ours-float32", "softmax-float32")
    for found, before in ((exact, ours), (exact.start, ours.start)):
        assert found.schedule == before.schedule.model_copy(update={"precision": "float32"})
    assert rescheduled(exact, None, None, "mixed").schedule == ours.schedule


def test_a_rescheduled_recipe_is_not_taken_for_the_papers_row():
    ours = named_recipe("ours", "cifar10", "paper")
    assert rescheduled(ours, 30, 0.5).name == "ours-e30-lr0.5"


@pytest.mark.parametrize("name", recipe_names())
def test_rescheduling_to_the_same_changes_nothing(name):
    recipe = named_recipe(name, "svhn", "quick")
    assert rescheduled(recipe, None, None) == recipe
    schedule = recipe.schedule
    again = rescheduled(recipe, schedule.epochs, schedule.learning_rate, schedule.precision)
    assert again == recipe
