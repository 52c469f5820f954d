"""From a paper table, the ablation or a transfer matrix to the measurements it needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from robustbench_pcl.jobs.plan import Job, Measure, Train, plan
from robustbench_pcl.paper.table import published
from robustbench_pcl.recipes.named import named_recipe
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.cell import Cell
from robustbench_pcl.specs.names import Scale
from robustbench_pcl.specs.recipe import Recipe


def table_jobs(number: int, dataset: str, scale: Scale, seed: int = 0) -> list[Job]:
    """The jobs behind a table of the paper on one data set.

    White-box PGD is also run on the logit margin, and both at the table's largest budget: where a
    defence only flattens cross-entropy, that attack shows it, and the table's worst case says so.

    Raises:
        UserError: there is no such table or data set.
    """
    cells = [position.cell for position in published(number).positions(dataset)]
    return cell_jobs([*cells, *_at_the_largest_budget(cells)], scale, seed)


def cell_jobs(cells: Iterable[Cell], scale: Scale, seed: int = 0) -> list[Job]:
    """The jobs behind some cells."""
    measures: list[Measure] = []
    trainings: list[Train] = []
    for cell in cells:
        target = named_recipe(cell.target, cell.dataset, scale, seed)
        if cell.quantity != "accuracy":
            trainings.append(Train(target))
            continue
        source = named_recipe(cell.source, cell.dataset, scale, seed) if cell.source else None
        measures.append(Measure(target, source, cell.attack))
        if cell.attack and cell.attack.name == "pgd" and cell.source == cell.target:
            measures.append(Measure(target, source, cell.attack.merged({"loss": "margin"})))
    return plan(measures, trainings)


def _at_the_largest_budget(cells: Sequence[Cell]) -> list[Cell]:
    """White-box PGD on every target that is attacked white-box, at the largest eps of them all."""
    white_box = [cell for cell in cells if cell.attack and cell.source == cell.target]
    parameters = [cell.attack.parameters for cell in white_box if cell.attack]
    budgets = [float(given["eps"]) for given in parameters if "eps" in given]
    if not budgets:
        return []
    pgd = Part(name="pgd", parameters={"eps": max(budgets)})
    targets = dict.fromkeys((cell.dataset, cell.target) for cell in white_box)
    return [
        Cell(dataset=dataset, target=target, source=target, attack=pgd)
        for dataset, target in targets
    ]


def transfer_jobs(
    sources: Sequence[Recipe], targets: Sequence[Recipe], attack: Part
) -> list[Measure]:
    """One measurement a pair, row by row."""
    return [Measure(target, source, attack) for source in sources for target in targets]
