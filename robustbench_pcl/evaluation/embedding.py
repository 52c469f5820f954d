"""From a model's features of test images to points in the plane."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_pcl.data.batches import pixels
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.projection import tsne
from robustbench_pcl.losses.base import FeatureLoss
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.models.classifier import Classifier, GlobalAveragePool
from robustbench_pcl.specs.view import View
from robustbench_pcl.store.adversarial_sets import AdversarialSet
from robustbench_pcl.store.embeddings import Array, EmbeddingSpec, Layout
from robustbench_pcl.store.records import ModelRecord

POINTS = 2000
"""Images shown at most; t-SNE of so many takes seconds, of all test images minutes."""
CLASSES = 10
"""Classes shown at most: no more colours can be told apart (Section 6.4)."""
SEED = 0
"""Of t-SNE and of the choice of classes."""
BATCH = 256
Batch = tuple[Tensor, Tensor]


def embedding_spec(
    model: ModelRecord, view: View, dataset: Dataset, n: int, images: AdversarialSet | None
) -> EmbeddingSpec:
    """What an embedding is made from.

    Args:
        model: whose features.
        view: which features of which images.
        dataset: the clean images.
        n: how many are wanted.
        images: the adversarial set if the view has an attack, else None.
    """
    resolved = view.model_copy(update={"attack": images.spec.attack if images else None})
    return EmbeddingSpec(
        model=model,
        view=resolved,
        data=dataset.record("test"),
        adversarial_set=images.spec.id if images else None,
        classes=shown_classes(len(dataset.spec.classes)),
        n=min(n, POINTS),
        seed=SEED,
    )


def shown_classes(classes: int) -> tuple[int, ...]:
    """The classes whose images are shown: all, or ten of them drawn at random, always the same."""
    if classes <= CLASSES:
        return tuple(range(classes))
    drawn = np.random.default_rng(SEED).choice(classes, CLASSES, replace=False)
    return tuple(sorted(drawn.tolist()))


def lay_out(
    model: SupervisedModel,
    spec: EmbeddingSpec,
    dataset: Dataset,
    images: AdversarialSet | None,
    device: torch.device,
) -> Layout:
    """Points in the plane for the images that a specification names.

    Args:
        model: in eval mode on the device.
        spec: what is wanted.
        dataset: the clean images.
        images: the adversarial set if the specification has one, else None.
        device: where the model is.

    Raises:
        UserError: the model has no such layer, the layer's features are not two neurons where they
            are to be drawn as they are, or too few images are left for t-SNE.
    """
    classifier, layer = _one_network(model, spec), spec.view.layer
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    batches = _stored(images) if images else _clean(dataset)
    with torch.no_grad(), _watched(classifier, layer) as seen:
        for batch, truth in _shown(batches, spec):
            answers = model(batch.to(device)).argmax(dim=1)
            kept.append((seen.pop().float(), truth, answers))
    features, labels, predictions = (_joined(parts) for parts in zip(*kept, strict=True))
    if spec.view.method == "tsne":
        return Layout(tsne(features, spec.seed), labels, predictions)
    if features.shape[1] != 2:
        raise UserError(
            f"Layer {layer} of {spec.model.recipe.name} has {features.shape[1]} neurons, not two.",
            "Take a recipe with two in its penultimate layer, such as ours-2d, or t-SNE.",
        )
    return Layout(
        features, labels, predictions, _anchors(model, layer), _head(classifier, spec, layer)
    )


def _one_network(model: SupervisedModel, spec: EmbeddingSpec) -> Classifier:
    classifier = model.classifier
    if not isinstance(classifier, Classifier):
        raise UserError(
            f"{spec.model.recipe.name} is an ensemble, which has no layer in common.",
            "Take a recipe with one network, such as ours.",
        )
    if spec.view.layer > len(classifier.layers):
        raise UserError(
            f"{spec.model.recipe.name} has no layer {spec.view.layer}.",
            f"Its layers are 1 to {len(classifier.layers)}.",
        )
    return classifier


@contextlib.contextmanager
def _watched(classifier: Classifier, layer: int) -> Iterator[list[Tensor]]:
    """A list that gets a layer's features (N, D) of every forward pass.

    They are what a loss would see there: the auxiliary branch's output where the layer is tapped,
    otherwise the mean over positions.
    """
    seen: list[Tensor] = []
    tap = str(layer)
    branch = classifier.branches[tap] if tap in classifier.branches else GlobalAveragePool()

    def keep(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
        seen.append(branch(output))

    handle = classifier.layers[layer - 1].register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def _shown(batches: Iterator[Batch], spec: EmbeddingSpec) -> Iterator[Batch]:
    """The first images of the classes that are shown, as many as are wanted."""
    classes, left = torch.tensor(spec.classes), spec.n
    for images, labels in batches:
        rows = torch.nonzero(torch.isin(labels, classes))[:left, 0]
        left -= len(rows)
        if len(rows):
            yield images[rows], labels[rows]
        if not left:
            return


def _clean(dataset: Dataset) -> Iterator[Batch]:
    for start in range(0, len(dataset.test), BATCH):
        rows = slice(start, start + BATCH)
        images = torch.from_numpy(np.array(dataset.test.images[rows]))
        yield pixels(images), torch.from_numpy(np.array(dataset.test.labels[rows]))


def _stored(images: AdversarialSet) -> Iterator[Batch]:
    for batch, labels in images.batches(BATCH):
        yield torch.from_numpy(batch), torch.from_numpy(labels)


def _anchors(model: SupervisedModel, layer: int) -> Array | None:
    """The classes' prototypes or centres (K, 2) among a layer's features, if its loss has any."""
    losses = model.criterion.losses
    if str(layer) in losses:
        with contextlib.suppress(UserError):  # not every loss has points for the classes
            return _joined([cast(FeatureLoss, losses[str(layer)]).anchors()])
    return None


def _head(classifier: Classifier, spec: EmbeddingSpec, layer: int) -> Array | None:
    """Weights and bias (K, 3) of the layer that decides a class from these very features."""
    head = classifier.head
    follows = layer == len(classifier.layers) and spec.model.recipe.inference == "softmax"
    if not follows or not isinstance(head, nn.Linear):
        return None
    return _joined([torch.cat([head.weight, head.bias[:, None]], dim=1)])


def _joined(parts: Sequence[Tensor]) -> Array:
    return torch.cat(list(parts)).detach().cpu().numpy()
