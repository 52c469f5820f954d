"""The paper's figures of results as data: whose features or accuracies, under which attacks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Literal, NamedTuple

from robustbench_pcl.configuration import Description
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.tables import AttackRequest, Cell, published, published_numbers
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.store.embeddings import Method, View

PENULTIMATE = 5
"""The layer of Table 1 before the logits, in both of its networks."""


class Panel(Description):
    """One scatter plot: the features of one model.

    Attributes:
        label: its title; ``{epochs}`` stands for the epochs trained, ``{accuracy}`` for the share
            of the images that are classified as their label.
        recipe: the model, by name.
        layer: Table 1's number.
        method: from features to points.
        attack: white-box, by default with the data set's standard budget; None for clean images.
        trained: share of the recipe's own epochs that the model has had; None for the trained
            model, whose own checkpoint is looked at.
    """

    label: str
    recipe: str
    layer: int = PENULTIMATE
    method: Method = "features"
    attack: AttackRequest | None = None
    trained: float | None = None

    def view(self, recipe: Recipe) -> View:
        """The question that the panel asks of a recipe, its attack complete.

        Raises:
            UserError: there is no such data set or attack.
        """
        attack = self.attack.complete(recipe.dataset, recipe.scale).dump() if self.attack else None
        epoch = None if self.trained is None else epoch_of(recipe, self.trained)
        return View(layer=self.layer, method=self.method, attack=attack, epoch=epoch)


class FeatureFigure(Description):
    """A figure of scatter plots.

    Attributes:
        number: the paper's.
        title: what it shows, in a few words.
        caption: how to read it; ``{eps}`` stands for the standard budgets.
        datasets: those in the paper.
        panels: from left to right, then from top to bottom.
        one_window: which panels show the same part of the plane, so that they can be compared:
            all, those of one recipe, or none, where distances mean nothing.
        compares: whether it says nothing as long as one of its panels is missing.
    """

    number: int
    title: str
    caption: str
    datasets: tuple[str, ...]
    panels: tuple[Panel, ...]
    one_window: Literal["all", "recipe", "none"]
    compares: bool = False


class SweepFigure(Description):
    """A figure of accuracy against the attack's budget.

    Attributes:
        number: the paper's.
        title: what it shows, in a few words.
        caption: how to read it.
        datasets: those in the paper.
        recipe: the model that is attacked, white-box, unless another is asked for.
        comparison: the recipe that is shown beside it where it is measured.
        attacks: one curve each, without a budget; the first takes a single step.
        shares: budgets as shares of the data set's standard one.
    """

    number: int
    title: str
    caption: str
    datasets: tuple[str, ...]
    recipe: str
    comparison: str
    attacks: tuple[AttackRequest, ...]
    shares: tuple[float, ...]

    def budgets(self, dataset: str) -> tuple[float, ...]:
        """The budgets in pixels of [0, 1], in rising order; no pixel can change by more than 1."""
        standard = dataset_spec(dataset).eps
        # Twelve digits, so that rows of tables that mean the same budget share their images.
        scaled = {float(f"{min(share * standard, 1.0):.12g}") for share in self.shares}
        return tuple(sorted(scaled))

    def cells(
        self, dataset: str, attack: AttackRequest, model: str = ""
    ) -> Iterator[tuple[float, Cell]]:
        """Each budget and the cell that asks for the accuracy under it; clean for no budget.

        Args:
            dataset: name of the data set.
            attack: without a budget.
            model: by name; the figure's recipe if "".
        """
        target = model or self.recipe
        clean = Cell(dataset=dataset, target=target)
        for eps in self.budgets(dataset):
            asked = attack.changed(eps=eps)
            yield eps, clean.changed(source=target, attack=asked) if eps else clean


PaperFigure = FeatureFigure | SweepFigure

_PGD = AttackRequest(name="pgd")

FIGURES: dict[int, PaperFigure] = {
    figure.number: figure
    for figure in (
        FeatureFigure(
            number=1,
            title="Features of clean and of attacked images",
            caption="The outputs of a penultimate layer of two neurons; over each panel the "
            "accuracy with its 95\N{NO-BREAK SPACE}% Wilson interval. The shade is the class that "
            "the network gives to each point of the plane. A ring marks a test image that the "
            "network gives another class. Crosses are the prototypes. PGD with eps = {eps}, on "
            "each model's own gradients. Both panels of a model show the same part of the plane.",
            datasets=("mnist", "cifar10"),
            panels=(
                Panel(label="Softmax, clean: {accuracy}", recipe="softmax-2d"),
                Panel(
                    label="Softmax, PGD: {accuracy}",
                    recipe="softmax-2d",
                    attack=_PGD,
                ),
                Panel(label="Ours, clean: {accuracy}", recipe="ours-2d"),
                Panel(
                    label="Ours, PGD: {accuracy}",
                    recipe="ours-2d",
                    attack=_PGD,
                ),
            ),
            one_window="recipe",
        ),
        FeatureFigure(
            number=4,
            title="Prototype conformity and triplet loss",
            caption="t-SNE of the last layer's features of clean test images; over each panel the "
            "accuracy with its 95\N{NO-BREAK SPACE}% Wilson interval. A ring marks an image that "
            "the network gives another class. Distances between groups mean little.",
            datasets=("cifar100",),
            panels=(
                Panel(label="Ours: {accuracy}", recipe="ours", method="tsne"),
                Panel(label="Triplet loss: {accuracy}", recipe="triplet", method="tsne"),
            ),
            one_window="none",
            compares=True,
        ),
        FeatureFigure(
            number=5,
            title="Features from layer to layer",
            caption="t-SNE of the features of Ours on clean test images, at layer 1 and at the "
            "layers that carry the loss. A ring marks an image that the network gives another "
            "class. Distances between groups mean little.",
            datasets=("mnist", "cifar10", "svhn"),
            panels=tuple(
                Panel(label=f"Layer {layer}", recipe="ours", layer=layer, method="tsne")
                for layer in (1, 3, 4, 5)
            ),
            one_window="none",
        ),
        FeatureFigure(
            number=6,
            title="Features in the course of training",
            caption="The outputs of the penultimate layer of Ours, with two neurons, on clean test "
            "images while the joint loss is trained; over each panel the accuracy with its "
            "95\N{NO-BREAK SPACE}% Wilson interval. The shade is the class that the network gives "
            "to each point. A ring marks an image that the network gives another class. Crosses "
            "are the prototypes. All panels show the same part of the plane.",
            datasets=("cifar10",),
            panels=tuple(
                Panel(label=label, recipe="ours-2d", trained=share)
                for label, share in (
                    ("Start: {accuracy}", 0.0),
                    ("Epoch {epochs}: {accuracy}", 1 / 4),
                    ("Epoch {epochs}: {accuracy}", 1 / 2),
                    ("Epoch {epochs}: {accuracy}", 1.0),
                )
            ),
            one_window="all",
        ),
        SweepFigure(
            number=7,
            title="Accuracy against the attack's budget",
            caption="Accuracy under white-box attacks; error bars are 95\N{NO-BREAK SPACE}% Wilson "
            "intervals. The paper prints no numbers with its figure: its curves (hollow, dotted) "
            "join the numbers that its tables print for the same recipe and attack. PGD on the "
            "margin loss is not in the paper's figure: it does not depend on the gradients of "
            "cross-entropy, which may vanish.",
            datasets=("mnist", "cifar10"),
            recipe="ours",
            comparison="softmax",
            attacks=(
                *(AttackRequest(name=name) for name in ("fgsm", "bim", "mim", "pgd")),
                AttackRequest(name="pgd", loss="margin"),
            ),
            shares=(0, 1 / 4, 1 / 2, 1, 3 / 2, 2, 4),
        ),
    )
}


def paper_figure(number: int) -> PaperFigure:
    """A figure of the paper.

    Raises:
        UserError: that figure is not one of results; the message lists those that are.
    """
    if number not in FIGURES:
        raise UserError(
            f"There is no figure {number} to measure.",
            f"Known: --figure {', '.join(map(str, FIGURES))}.",
        )
    return FIGURES[number]


class Printed(NamedTuple):
    """A number of the paper: the budget in pixels of [0, 1], per cent, and the table's number."""

    eps: float
    accuracy: float
    table: int


@cache
def printed_curve(recipe: str, dataset: str, attack: AttackRequest) -> tuple[Printed, ...]:
    """What the paper's tables print for a recipe under a white-box attack.

    Args:
        recipe: by name.
        dataset: name of the data set.
        attack: without a budget.

    Returns:
        From the clean accuracy on, rising; of several numbers for one budget the first table's.
        Nothing where no table prints a number under the attack.
    """
    found: dict[float, Printed] = {}
    for number in published_numbers():
        table = published(number)
        for position in table.positions(dataset) if dataset in table.datasets else ():
            cell, value = position.cell, position.published
            if value is None or (cell.target, cell.quantity) != (recipe, "accuracy"):
                continue
            if cell.attack is None:
                found.setdefault(0.0, Printed(0.0, value, number))
            elif cell.white_box and cell.attack.changed(eps=None) == attack and cell.attack.eps:
                found.setdefault(cell.attack.eps, Printed(cell.attack.eps, value, number))
    return tuple(found[eps] for eps in sorted(found)) if any(found) else ()


def epochs_looked_at(recipe: Recipe) -> frozenset[int]:
    """After how many epochs of a training some figure looks at features, were it this recipe's."""
    shares = {
        panel.trained
        for figure in FIGURES.values()
        if isinstance(figure, FeatureFigure)
        for panel in figure.panels
        if panel.trained is not None
    }
    return frozenset(epoch_of(recipe, share) for share in shares)


def epoch_of(recipe: Recipe, share: float) -> int:
    """How many epochs a share of a recipe's own training is."""
    return round(share * recipe.schedule.epochs)
