"""From a model's features of test images to points in the plane."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor, nn

from robustbench_pcl.data.batches import pixels
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.checked import check_set
from robustbench_pcl.losses.criterion import FeatureLoss
from robustbench_pcl.models.classifier import Classifier, GlobalAveragePool
from robustbench_pcl.models.supervised import SupervisedModel
from robustbench_pcl.store.adversarial_sets import AdversarialSet
from robustbench_pcl.store.embeddings import Array, EmbeddingSpecification, Layout

BATCH = 256
DIMENSIONS = 50
"""Left by the principal component analysis before t-SNE (van der Maaten and Hinton 2008)."""
PERPLEXITY = 30.0
"""Of 600 images or more; of fewer a twentieth of them, so that a class is more than its centre."""
FEWEST = 5
Batch = tuple[Tensor, Tensor]


def lay_out(
    model: SupervisedModel,
    spec: EmbeddingSpecification,
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
        UserError: the set is not what it should be, the model has no such layer, the layer's
            features are not two neurons where they are to be drawn as they are, or too few images
            are left for t-SNE.
    """
    classifier, layer = _one_network(model, spec), spec.view.layer
    if images:
        check_set(images, dataset)
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    batches = _stored(images) if images else _clean(dataset)
    with torch.no_grad(), _features_of(classifier, layer) as seen:
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


def _one_network(model: SupervisedModel, spec: EmbeddingSpecification) -> Classifier:
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
def _features_of(classifier: Classifier, layer: int) -> Iterator[list[Tensor]]:
    """A list that gets a layer's features (N, D) of every forward pass.

    They are what a loss would see there: the auxiliary branch's output where the layer is a feature
    layer, otherwise the mean over positions.
    """
    seen: list[Tensor] = []
    branches, name = classifier.branches, str(layer)
    branch = branches[name] if name in branches else GlobalAveragePool()

    def keep(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
        seen.append(branch(output))

    handle = classifier.layers[layer - 1].register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def _shown(batches: Iterator[Batch], spec: EmbeddingSpecification) -> Iterator[Batch]:
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
    if str(layer) in losses and model.criterion.has_anchors:
        return _joined([cast(FeatureLoss, losses[str(layer)]).anchors()])
    return None


def _head(classifier: Classifier, spec: EmbeddingSpecification, layer: int) -> Array | None:
    """Weights and bias (K, 3) of the layer that decides a class from these very features."""
    head = classifier.head
    follows = layer == len(classifier.layers) and spec.model.recipe.inference == "softmax"
    if not follows or not isinstance(head, nn.Linear):
        return None
    return _joined([torch.cat([head.weight, head.bias[:, None]], dim=1)])


def _joined(parts: Sequence[Tensor]) -> Array:
    return torch.cat(list(parts)).detach().cpu().numpy()


def tsne(features: Array, seed: int) -> Array:
    """Points float32 (N, 2) in which near features stay near.

    Args:
        features: (N, D), in any unit; equal features give equal points.
        seed: of the few choices that are left with a start from the principal components.

    Raises:
        UserError: there are too few images.
    """
    count, width = features.shape
    if count < FEWEST:
        raise UserError(
            f"t-SNE needs at least {FEWEST} images, and there are {count}.",
            "Ask for more with --images.",
        )
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    spread = centred.std()
    if spread == 0:
        return np.zeros((count, 2), np.float32)
    reduced = PCA(min(DIMENSIONS, count, width), svd_solver="full").fit_transform(centred / spread)
    perplexity = min(PERPLEXITY, max(count / 20, 1.0))
    points = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(reduced)
    return np.asarray(points, dtype=np.float32)
