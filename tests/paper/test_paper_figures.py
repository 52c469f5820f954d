"""The paper's figures as data: they ask for what exists, at the budgets that the tables use."""

import pytest

from robustbench_pcl.configuration import SCALES
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.figures import (
    FIGURES,
    PENULTIMATE,
    FeatureFigure,
    epochs_looked_at,
    paper_figure,
)
from robustbench_pcl.paper.tables import published
from robustbench_pcl.recipes.load import load_recipe

FEATURE_FIGURES = [figure for figure in FIGURES.values() if isinstance(figure, FeatureFigure)]
PANELS = [panel for figure in FEATURE_FIGURES for panel in figure.panels]


def test_figures_are_found_by_number():
    assert list(FIGURES) == [1, 4, 5, 6, 7]
    assert all(paper_figure(number).number == number for number in FIGURES)
    with pytest.raises(UserError, match=r"no figure 2.*--figure 1, 4, 5, 6, 7"):
        paper_figure(2)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dataset", ["cifar10", "digits"])
def test_every_panel_can_be_asked_of_its_recipe(dataset, scale):
    for panel in PANELS:
        recipe = load_recipe(panel.recipe, dataset, scale)
        view = panel.view(recipe)
        if panel.method == "features":
            assert recipe.embedding == 2
            assert view.layer == PENULTIMATE
        if view.attack:
            assert view.attack["eps"] == dataset_spec(dataset).eps
            assert {"name", "steps", "loss"} < view.attack.keys()  # it is complete
        if view.epoch is not None:
            assert 0 <= view.epoch <= recipe.schedule.epochs
            assert view.epoch in epochs_looked_at(recipe)


def test_panels_of_one_figure_ask_for_different_things():
    for figure in FEATURE_FIGURES:
        for scale in SCALES:
            asked = [
                (panel.recipe, panel.view(load_recipe(panel.recipe, "cifar10", scale)))
                for panel in figure.panels
            ]
            assert all(asked.count(one) == 1 for one in asked)


def test_training_is_looked_at_from_before_the_first_epoch_to_after_the_last():
    assert epochs_looked_at(load_recipe("ours-2d", "cifar10", "paper")) == {0, 75, 150, 300}
    assert epochs_looked_at(load_recipe("ours-2d", "cifar10", "demo")) == {0, 1, 2, 4}


def test_budgets_rise_from_nothing_and_no_pixel_changes_by_more_than_one():
    sweep = FIGURES[7]
    assert sweep.budgets("cifar10") == (0.0, 0.0075, 0.015, 0.03, 0.045, 0.06, 0.12)
    assert sweep.budgets("mnist") == (0.0, 0.075, 0.15, 0.3, 0.45, 0.6, 1.0)
    for dataset in DATASETS:
        assert dataset_spec(dataset).eps in sweep.budgets(dataset)


def test_the_sweep_shares_table_3s_cells_at_the_standard_budget():
    table = [position.cell for position in published(3).positions("cifar10")]
    *papers, ours = FIGURES[7].attacks
    assert ours.loss == "margin"
    for attack in papers:
        cells = dict(FIGURES[7].cells("cifar10", attack))
        assert cells[0.0] in table  # clean
        assert cells[0.03] in table
