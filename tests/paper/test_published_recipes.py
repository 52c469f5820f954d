"""Every model that a table names can be trained."""

from __future__ import annotations

import pytest

from robustbench_pcl.paper.table import published, published_numbers
from robustbench_pcl.recipes.named import named_recipe


@pytest.mark.parametrize("number", published_numbers())
def test_every_model_of_a_table_is_a_recipe(number):
    table = published(number)
    for dataset in (*table.datasets, "digits"):
        cells = [position.cell for position in table.positions(dataset)]
        names = {name for cell in cells for name in (cell.target, cell.source) if name}
        assert names
        for name in names:
            recipe = named_recipe(name, dataset, "paper")
            assert (recipe.name, recipe.dataset) == (name, dataset)
