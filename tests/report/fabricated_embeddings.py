"""Embeddings that nobody made, for tests of how they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from fabricated import ENVIRONMENT, make_data

from robustbench_pcl.configuration import Scale, digest
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.paper.figures import FeatureFigure, Panel
from robustbench_pcl.recipes.load import load_recipe
from robustbench_pcl.store.embeddings import (
    Embedding,
    EmbeddingSpecification,
    Layout,
    save_embedding,
)
from robustbench_pcl.store.records import ModelRecord

CENTRES = np.random.default_rng(1).normal(size=(100, 2)) * 5
NEAREST = np.column_stack([2 * CENTRES, -(CENTRES**2).sum(axis=1)])
"""The linear layer that gives each point the class of its nearest centre."""


def make_layout(
    classes: tuple[int, ...] = tuple(range(10)),
    n: int = 60,
    wrong: int = 6,
    known: int = 10,
    **more: Any,
) -> Layout:
    """Groups of points, the first so many of them given the next class."""
    labels = np.array(classes)[np.arange(n) % len(classes)]
    points = CENTRES[labels] + np.random.default_rng(0).normal(size=(n, 2)) * 0.3
    predictions = labels.copy()
    predictions[:wrong] = (labels[:wrong] + 1) % known
    return Layout(points.astype(np.float32), labels, predictions, **more)


def with_regions(layout: Layout, known: int = 10) -> Layout:
    """The same points with prototypes and the layer that decides."""
    anchors, head = CENTRES[:known].astype(np.float32), NEAREST[:known].astype(np.float32)
    return Layout(layout.points, layout.labels, layout.predictions, anchors, head)


def make_embedding(
    folder: Path,
    panel: Panel,
    dataset: str = "digits",
    scale: Scale = "demo",
    seed: int = 0,
    *,
    day: int = 1,
    layout: Layout | None = None,
    classes: tuple[int, ...] = tuple(range(10)),
    weights: str = "",
    **view: Any,
) -> Embedding:
    """The stored embedding that answers a panel."""
    recipe = load_recipe(panel.recipe, dataset, scale, seed)
    asked = panel.view(recipe)
    if layout is None:
        known = len(dataset_spec(dataset).classes)
        layout = make_layout(classes, known=known)
        if panel.method == "features":
            layout = with_regions(layout, known)
    checkpoint = recipe.id("")
    if asked.epoch is None:  # before the end of a training no weights are kept
        weights = weights or f"weights-{checkpoint}"
    spec = EmbeddingSpecification(
        model=ModelRecord(checkpoint=checkpoint, weights=weights, recipe=recipe),
        view=asked.changed(**view),
        data=make_data(dataset),
        adversarial_set=digest("a set") if asked.attack else None,
        classes=classes,
        n=len(layout.points),
        seed=0,
    )
    return save_embedding(folder, spec, layout, ENVIRONMENT, f"2025-01-{day:02}T00:00:00+00:00")


def make_embeddings(
    folder: Path, figure: FeatureFigure, dataset: str = "digits", **more: Any
) -> list[Embedding]:
    """One per panel."""
    return [make_embedding(folder, panel, dataset, **more) for panel in figure.panels]
