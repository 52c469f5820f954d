"""A figure of the paper's results as data: whose features or accuracies, under which attacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.specs.base import Part, Spec
from robustbench_pcl.specs.cell import Cell
from robustbench_pcl.specs.recipe import Recipe
from robustbench_pcl.specs.view import Method, View

PENULTIMATE = 5
"""The layer of Table 1 before the logits, in both of its networks."""


class Panel(Spec):
    """One scatter plot: the features of one model.

    Attributes:
        label: its title; ``{epochs}`` stands for the epochs trained, ``{accuracy}`` for the share
            of the images that are classified as their label.
        recipe: the model, by name.
        layer: Table 1's number.
        method: from features to points.
        attack: white-box, with the data set's standard budget; None for clean images.
        trained: share of the recipe's own epochs that the model has had; None for the trained
            model, whose own checkpoint is looked at.
    """

    label: str
    recipe: str
    layer: int = PENULTIMATE
    method: Method = "features"
    attack: str | None = None
    trained: float | None = None

    def view(self, recipe: Recipe) -> View:
        """The question that the panel asks of a recipe."""
        attack = None
        if self.attack is not None:
            eps = dataset_spec(recipe.dataset).eps
            attack = Part(name=self.attack, parameters={"eps": eps})
        epoch = None if self.trained is None else epoch_of(recipe, self.trained)
        return View(layer=self.layer, method=self.method, attack=attack, epoch=epoch)


class FeatureFigure(Spec):
    """A figure of scatter plots.

    Attributes:
        number: the paper's.
        title: what it shows, in a few words.
        caption: how to read it; ``{eps}`` stands for the standard budgets.
        datasets: those in the paper.
        panels: from left to right, then from top to bottom.
        one_window: which panels show the same part of the plane, so that they can be compared:
            all, those of one recipe, or none, where distances mean nothing.
    """

    number: int
    title: str
    caption: str
    datasets: tuple[str, ...]
    panels: tuple[Panel, ...]
    one_window: Literal["all", "recipe", "none"]


class SweepFigure(Spec):
    """A figure of accuracy against the attack's budget.

    Attributes:
        number: the paper's.
        title: what it shows, in a few words.
        caption: how to read it.
        datasets: those in the paper.
        recipe: who is attacked, white-box.
        attacks: a curve each, without a budget; the first takes a single step.
        shares: budgets as shares of the data set's standard one.
    """

    number: int
    title: str
    caption: str
    datasets: tuple[str, ...]
    recipe: str
    attacks: tuple[Part, ...]
    shares: tuple[float, ...]

    def budgets(self, dataset: str) -> tuple[float, ...]:
        """The budgets in pixels of [0, 1], in rising order; no pixel can change by more than 1."""
        standard = dataset_spec(dataset).eps
        # Twelve digits, so that rows of tables that mean the same budget share their images.
        scaled = {float(f"{min(share * standard, 1.0):.12g}") for share in self.shares}
        return tuple(sorted(scaled))

    def cells(self, dataset: str, attack: Part) -> Iterator[tuple[float, Cell]]:
        """Each budget and the cell that asks for the accuracy under it."""
        for eps in self.budgets(dataset):
            part = attack.merged({"eps": eps}) if eps else None
            source = self.recipe if part else None
            yield eps, Cell(dataset=dataset, target=self.recipe, source=source, attack=part)


PaperFigure = FeatureFigure | SweepFigure


def epoch_of(recipe: Recipe, share: float) -> int:
    """How many epochs a share of a recipe's own training is."""
    return round(share * recipe.schedule.epochs)
