"""Which stored embedding answers a panel of a figure of features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.paper.figure import FeatureFigure, Panel
from robustbench_pcl.recipes.named import named_recipe
from robustbench_pcl.report.figures.figure_section import FigureSection
from robustbench_pcl.report.figures.regions import Window, window_of
from robustbench_pcl.report.figures.scatter import Block
from robustbench_pcl.report.figures.scatter_plot import Plot
from robustbench_pcl.report.formatting import MISSING, percent
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.names import SCALES, Scale
from robustbench_pcl.store.embeddings import Embedding, Layout


def feature_section(
    figure: FeatureFigure,
    embeddings: Sequence[Embedding],
    dataset: str,
    scale: Scale | None = None,
    seed: int | None = None,
) -> FigureSection:
    """A figure's panels for a data set.

    All panels of a recipe show one checkpoint: the one that answers most of them, the newest if
    several do.

    Args:
        figure: the paper's.
        embeddings: all there are, oldest first.
        dataset: name in the catalogue.
        scale: of the recipes; by default the most faithful one with anything stored.
        seed: of the recipes' training; any by default.

    Raises:
        UserError: there is no such data set, or a file is damaged.
    """
    answers: list[Embedding | None] = [None] * len(figure.panels)
    for tried in (scale,) if scale else SCALES:
        rivals = [
            embedding
            for embedding in embeddings
            if (recipe := embedding.spec.model.recipe).dataset == dataset
            and recipe.scale == tried
            and seed in (None, recipe.seed)
        ]
        answers = _answers(figure.panels, rivals)
        if any(answers):
            scale = tried
            break
    layouts = [answer.layout() if answer else None for answer in answers]
    titles = [
        _title(panel, layout, dataset, scale, seed)
        for panel, layout in zip(figure.panels, layouts, strict=True)
    ]
    spec = dataset_spec(dataset)
    classes = next((answer.spec.classes for answer in answers if answer), ())
    windows = _windows(figure, layouts, classes)
    return FigureSection(
        number=figure.number,
        dataset=dataset,
        scale=scale,
        seed=seed,
        part=Block(
            title=spec.title,
            classes=classes,
            names=tuple(spec.classes[number].replace("_", " ") for number in classes),
            plots=tuple(map(Plot, titles, layouts, windows)),
        ),
        images=tuple(len(layout.points) for layout in layouts if layout),
        missing=tuple(
            title.removesuffix(f": {MISSING}")
            for title, layout in zip(titles, layouts, strict=True)
            if layout is None
        ),
        notes=tuple(_notes(len(classes), len(spec.classes))),
    )


def _answers(panels: Sequence[Panel], rivals: Sequence[Embedding]) -> list[Embedding | None]:
    """For every panel the newest embedding of the checkpoint that stands for its recipe."""
    found = [[rival for rival in rivals if _fits(rival, panel)] for panel in panels]
    counts: dict[str, Counter[str]] = {panel.recipe: Counter() for panel in panels}
    for panel, fitting in zip(panels, found, strict=True):
        counts[panel.recipe].update({rival.spec.model.checkpoint for rival in fitting})
    order = [rival.spec.model.checkpoint for rival in rivals]
    chosen = {
        name: max(count, key=lambda identity: (count[identity], _last(order, identity)))
        for name, count in counts.items()
        if count
    }
    return [
        next(
            (
                rival
                for rival in reversed(fitting)
                if rival.spec.model.checkpoint == chosen[panel.recipe]
            ),
            None,
        )
        for panel, fitting in zip(panels, found, strict=True)
    ]


def _last(order: Sequence[str], identity: str) -> int:
    return max(place for place, other in enumerate(order) if other == identity)


def _fits(embedding: Embedding, panel: Panel) -> bool:
    """Whether an embedding shows what a panel asks for."""
    recipe, given = embedding.spec.model.recipe, embedding.spec.view
    if recipe.name != panel.recipe:
        return False
    asked = panel.view(recipe)
    plain = {"attack": None}
    return asked.model_copy(update=plain) == given.model_copy(update=plain) and (
        _same_attack(given.attack, asked.attack)
    )


def _same_attack(given: Part | None, asked: Part | None) -> bool:
    """Whether an attack with all its parameters is the one asked for, on cross-entropy."""
    if given is None or asked is None:
        return given is asked
    wanted = given.merged({"loss": "cross-entropy", **asked.parameters})
    return given.name == asked.name and given == wanted


def _title(
    panel: Panel, layout: Layout | None, dataset: str, scale: Scale | None, seed: int | None
) -> str:
    recipe = named_recipe(panel.recipe, dataset, scale or "paper", seed or 0)
    return panel.label.format(
        epochs=panel.view(recipe).epoch,
        accuracy=percent(100 * layout.accuracy) if layout else MISSING,
    )


def _windows(
    figure: FeatureFigure, layouts: Sequence[Layout | None], classes: Sequence[int]
) -> Iterator[Window | None]:
    """The part of the plane that each panel shows; None for all of its own points."""
    for panel in figure.panels:
        together = [
            layout.with_anchors(classes)
            for other, layout in zip(figure.panels, layouts, strict=True)
            if layout and (figure.one_window == "all" or other.recipe == panel.recipe)
        ]
        one = together and figure.one_window != "none"
        yield window_of(np.concatenate(together)) if one else None


def _notes(shown: int, known: int) -> Iterator[str]:
    if 0 < shown < known:
        yield f"{shown} of the {known} classes, drawn at random."
