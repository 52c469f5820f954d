"""From a paper figure to the measurements and embeddings it needs."""

from __future__ import annotations

from robustbench_pcl.jobs.plan import Embed, Job, Measure, plan
from robustbench_pcl.paper.figure import FeatureFigure, SweepFigure
from robustbench_pcl.paper.figures import paper_figure
from robustbench_pcl.recipes.named import named_recipe
from robustbench_pcl.specs.names import Scale


def figure_jobs(number: int, dataset: str, scale: Scale, seed: int = 0) -> list[Job]:
    """The jobs behind a figure of the paper on one data set.

    Args:
        number: the paper's.
        dataset: name in the catalogue.
        scale: of the recipes.
        seed: of the recipes.

    Raises:
        UserError: there is no such figure or data set.
    """
    match paper_figure(number):
        case FeatureFigure(panels=panels):
            recipes = {
                panel.recipe: named_recipe(panel.recipe, dataset, scale, seed) for panel in panels
            }
            return plan(
                Embed(recipes[panel.recipe], panel.view(recipes[panel.recipe])) for panel in panels
            )
        case SweepFigure(recipe=name, attacks=attacks) as figure:
            target = named_recipe(name, dataset, scale, seed)
            return plan(
                Measure(target, target if cell.attack else None, cell.attack)
                for attack in attacks
                for _, cell in figure.cells(dataset, attack)
            )
