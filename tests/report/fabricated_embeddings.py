"""Embeddings that nobody made, for tests of how they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from fabricated import ENVIRONMENT, make_data

from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.paper.figure import FeatureFigure, Panel
from robustbench_pcl.recipes.named import named_recipe
from robustbench_pcl.specs.base import digest
from robustbench_pcl.specs.names import Scale
from robustbench_pcl.store.embeddings import Embedding, EmbeddingSpec, Layout, save_embedding
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
    checkpoint: str = "",
    **view: Any,
) -> Embedding:
    """The stored embedding that answers a panel."""
    recipe = named_recipe(panel.recipe, dataset, scale, seed)
    asked = panel.view(recipe)
    if asked.attack:
        whole = asked.attack.merged({"steps": 10, "loss": "cross-entropy"})
        asked = asked.model_copy(update={"attack": whole})
    if layout is None:
        known = len(dataset_spec(dataset).classes)
        layout = make_layout(classes, known=known)
        if panel.method == "features":
            layout = with_regions(layout, known)
    identity = checkpoint or recipe.id("")
    spec = EmbeddingSpec(
        model=ModelRecord(checkpoint=identity, weights=f"weights-{identity}", recipe=recipe),
        view=asked.model_copy(update=view),
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
    """One a panel."""
    return [make_embedding(folder, panel, dataset, **more) for panel in figure.panels]
