"""The paper's figures of results, by number."""

from __future__ import annotations

from robustbench_pcl.errors import UserError
from robustbench_pcl.paper.figure import (
    FeatureFigure,
    Panel,
    PaperFigure,
    SweepFigure,
    epoch_of,
)
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.recipe import Recipe

FIGURES: dict[int, PaperFigure] = {
    figure.number: figure
    for figure in (
        FeatureFigure(
            number=1,
            title="Features of clean and of attacked images",
            caption="The outputs of a penultimate layer of two neurons; over each panel the "
            "accuracy. Shaded: the class that the network gives to each point of the plane. "
            "Ringed: test images given a class that is not theirs. Crosses: the prototypes. PGD "
            "with eps = {eps}, on each model's own gradients. Both panels of a model show the "
            "same part of the plane.",
            datasets=("mnist", "cifar10"),
            panels=(
                Panel(label="Softmax, no attack: {accuracy}", recipe="softmax-2d"),
                Panel(label="Softmax, PGD: {accuracy}", recipe="softmax-2d", attack="pgd"),
                Panel(label="Ours, no attack: {accuracy}", recipe="ours-2d"),
                Panel(label="Ours, PGD: {accuracy}", recipe="ours-2d", attack="pgd"),
            ),
            one_window="recipe",
        ),
        FeatureFigure(
            number=4,
            title="Prototype conformity and triplet loss",
            caption="t-SNE of the last layer's features of clean test images; over each panel the "
            "accuracy. Ringed: given another class. Distances between groups mean little.",
            datasets=("cifar100",),
            panels=(
                Panel(label="Ours: {accuracy}", recipe="ours", method="tsne"),
                Panel(label="Triplet loss: {accuracy}", recipe="triplet", method="tsne"),
            ),
            one_window="none",
        ),
        FeatureFigure(
            number=5,
            title="Features from layer to layer",
            caption="t-SNE of the features of Ours on clean test images, at layer 1 and at the "
            "layers that carry the loss. Ringed: given another class in the end. Distances "
            "between groups mean little.",
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
            "images while the joint loss is trained; over each panel the accuracy. Shaded: the "
            "class that the network gives to each point. Ringed: given another class. Crosses: "
            "the prototypes. All panels show the same part of the plane.",
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
            caption="Ours without adversarial training under white-box attacks; bands: "
            "95\N{NO-BREAK SPACE}% intervals. PGD on the margin loss is not in the paper's figure: "
            "it does not depend on the gradients of cross-entropy, which may vanish.",
            datasets=("mnist", "cifar10"),
            recipe="ours",
            attacks=(
                *(Part(name=name) for name in ("fgsm", "bim", "mim", "pgd")),
                Part(name="pgd", parameters={"loss": "margin"}),
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
