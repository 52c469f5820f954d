"""What embeddings are made from, and making one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.environment import current_environment
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.pipeline.artefacts import Artefacts
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.store.adversarial_sets import AdversarialSet
from robustbench_pcl.store.embeddings import (
    Embedding,
    EmbeddingSpecification,
    View,
    save_embedding,
)
from robustbench_pcl.store.paths import now
from robustbench_pcl.store.records import ModelRecord

if TYPE_CHECKING:
    from robustbench_pcl.evaluation import embed
    from robustbench_pcl.models.supervised import SupervisedModel
else:
    embed = LazyModule("robustbench_pcl.evaluation.embed")

POINTS = 2000
"""Images shown at most; t-SNE of so many takes seconds, of all test images minutes."""
CLASSES = 10
"""Classes shown at most: no more colours can be told apart (Section 6.4)."""
SEED = 0
"""Of t-SNE and of the choice of classes."""


def embedding_specification(
    model: ModelRecord, view: View, dataset: Dataset, n: int, adversarial_set: str | None
) -> EmbeddingSpecification:
    """What an embedding is made from.

    Args:
        model: whose features; with weights "" for features in the course of its training.
        view: which features of which images.
        dataset: the clean images.
        n: how many are wanted; at most ``POINTS`` are shown.
        adversarial_set: id of the adversarial set if the view has an attack, else None.
    """
    return EmbeddingSpecification(
        model=model,
        view=view,
        data=dataset.record("test"),
        adversarial_set=adversarial_set,
        classes=shown_classes(len(dataset.spec.classes)),
        n=min(n, POINTS),
        seed=SEED,
    )


def specification_in_training(
    recipe: Recipe, view: View, dataset: Dataset
) -> EmbeddingSpecification:
    """What the features in the course of a training are made from.

    However many images are attacked now: what training did not keep cannot be made later.
    """
    model = ModelRecord(checkpoint=recipe.id(dataset.train.digest), weights="", recipe=recipe)
    return embedding_specification(model, view, dataset, POINTS, None)


def shown_classes(classes: int) -> tuple[int, ...]:
    """The classes whose images are shown: all, or ten of them drawn at random, always the same."""
    if classes <= CLASSES:
        return tuple(range(classes))
    drawn = np.random.default_rng(SEED).choice(classes, CLASSES, replace=False)
    return tuple(sorted(drawn.tolist()))


def make_embedding(
    artefacts: Artefacts,
    model: SupervisedModel,
    specification: EmbeddingSpecification,
    images: AdversarialSet | None = None,
) -> Embedding:
    """Lay a model's features out in the plane, and store the points.

    Args:
        artefacts: where it is stored.
        model: in eval mode on the device.
        specification: what is wanted.
        images: the adversarial set if the specification has one.

    Raises:
        UserError: the view cannot be had of this model.
    """
    dataset = artefacts.dataset(specification.data.dataset)
    layout = embed.lay_out(model, specification, dataset, images, artefacts.device)
    environment = current_environment(artefacts.device)
    return save_embedding(artefacts.paths.embeddings, specification, layout, environment, now())
