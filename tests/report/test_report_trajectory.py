"""The figure of a long training: which stored records are its points, and after how many steps."""

import math

import pytest
import torch
from fabricated import make_attack, make_evidence, make_measurement, make_model, make_recipe

from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import Schedule
from robustbench_pcl.report.trajectory import (
    ROUNDS_TO_ONE,
    trajectory_figure,
    trajectory_plots,
)
from robustbench_pcl.store.records import ModelRecord

STEPS = math.ceil(8000 / 256)
"""In an epoch."""
MARGINS = (-1.0, 2.0, 5.0, 9.0, 30.0)


def recipes():
    """A start, and a training of 3 epochs that goes on for 7 more."""
    start = make_recipe("softmax")
    first = make_recipe("ours-3", start=start, schedule=Schedule(epochs=3))
    return start, first, make_recipe("ours-10", start=first, schedule=Schedule(epochs=7))


def measured(recipe, correct, attack=None, **changes):
    model = ModelRecord(checkpoint=recipe.id("x"), weights=f"weights-{recipe.name}", recipe=recipe)
    source = model if attack else None
    return make_measurement(model, source, attack, correct, n=200, **changes)


def records():
    start, first, last = recipes()
    for recipe, pgd, mifpe in ((start, 2, 1), (first, 50, 2), (last, 90, 4)):
        yield measured(recipe, 180, margins=MARGINS)
        yield measured(recipe, pgd, make_attack())
        yield measured(recipe, mifpe, make_attack(loss="mifpe"))
    yield measured(last, 100, make_attack(eps=0.01))
    other = make_recipe("ours-3", start=start, schedule=Schedule(epochs=3), seed=5)
    yield measured(other, 150, make_attack())
    yield make_measurement(make_model("ours"), make_model("ours"), make_attack(), 10, n=200)


def test_a_trainings_points_are_the_recipes_that_it_went_on_from():
    (plot,) = trajectory_plots(make_evidence(records()), ["ours-10"])
    assert list(plot.curves) == ["PGD", "PGD on mifpe"]
    points = plot.curves["PGD"]
    assert [point.steps for point in points] == [0, 3 * STEPS, 10 * STEPS]
    assert [point.accuracy for point in points] == [1.0, 25.0, 45.0]
    assert [point.accuracy for point in plot.curves["PGD on mifpe"]] == [0.5, 1.0, 2.0]
    assert all(low < point.accuracy < high for point in points for low, high in [point.interval])
    assert plot.margins == dict.fromkeys([0, 3 * STEPS, 10 * STEPS], MARGINS)
    assert plot.conditions.endswith("quick scale, eps = 0.03, n = 200 images")


def test_a_point_on_the_way_names_a_shorter_training():
    (plot,) = trajectory_plots(make_evidence(records()), ["ours-3"], seed=0)
    assert [point.steps for point in plot.curves["PGD"]] == [0, 3 * STEPS]


def test_the_picture_has_every_attack_and_both_panels():
    figure = trajectory_figure(make_evidence(records()), ["ours-10"])
    drawing = figure.drawing.svg()
    for words in ("PGD on mifpe", "accuracy (%)", "logit margin", "steps of the joint loss"):
        assert words in drawing
    assert f"{ROUNDS_TO_ONE:.0f} on" in figure.caption
    assert trajectory_figure(make_evidence(records()), ["ours-10"]).drawing.svg() == drawing


@pytest.mark.parametrize(
    ("name", "words"),
    [("nobody", "no results for a training called 'nobody'"), ("softmax", "with one point")],
)
def test_what_is_no_training_with_points_is_said(name, words):
    with pytest.raises(UserError, match=words):
        trajectory_plots(make_evidence(records()), [name])


def test_a_float32_probability_rounds_to_one_where_the_picture_says():
    logits = torch.tensor([[ROUNDS_TO_ONE + 0.8, 0.0], [ROUNDS_TO_ONE - 0.8, 0.0]])
    probabilities = logits.softmax(dim=1)[:, 0]
    assert (probabilities == 1).tolist() == [True, False]
