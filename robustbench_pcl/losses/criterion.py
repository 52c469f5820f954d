"""What a loss on a layer's features is; their sum with cross-entropy on the logits (Eq. 8-10)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_pcl.configuration import Dump
from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES

Features = Mapping[int, Tensor]


class FeatureLoss(nn.Module, ABC):
    """A loss on one layer's features, with the parameters it learns (prototypes, centres).

    A member is built by its configuration as ``Loss(dimension, classes, **parameters)``, one for
    each feature layer.
    """

    @abstractmethod
    def per_image(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss of each image, (N,), of features (N, D) with labels int64 (N,).

        No image's loss depends on the others': an adaptive attack maximises it.
        """

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The batch's mean: the paper's sum over images divided by the batch size."""
        return self.per_image(features, labels).mean()

    def initialise(self, features: Tensor, labels: Tensor) -> None:
        """Set the loss's own parameters from training features (N, D), before its first step."""

    def calibrate(self, features: Tensor, labels: Tensor) -> None:
        """Set what inference needs from all training features (N, D), after the last step."""

    def anchors(self) -> Tensor:
        """The points (K, D) that stand for the classes among the features (Eq. 7).

        Its configuration says by ``has_anchors`` whether there are any.
        """
        raise NotImplementedError(f"{type(self).__name__} has no anchors")

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """The loss's own parameters with their learning rates, for plain SGD."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]


class Criterion(nn.Module):
    """The joint loss L = L_CE + tau sum_l L(f^l) of Algorithm 1.

    Without L_CE where the loss goes with no final FC(K) layer (Section 6.3).

    Args:
        dump: the loss's name and parameters, as a recipe has them.
        dimensions: {feature layer: D} of the features; cross-entropy acts on none of them.
        classes: number of classes.
        seed: of parameters that start at random; the process's random state is left as it was.

    Raises:
        UserError: there is no such loss, or it has no such parameter.

    Attributes:
        losses: by feature layer; none for plain cross-entropy.
        name: what the sum of the losses is called in histories ("pcl").
        with_cross_entropy: whether the network has a final layer, which learns by cross-entropy.
        has_anchors: whether each class has a point among the features.
    """

    def __init__(
        self, dump: Dump, dimensions: Mapping[int, int], classes: int, seed: int = 0
    ) -> None:
        super().__init__()
        configuration = LOSSES.read(dump)
        acts_on = {} if configuration.name == CROSS_ENTROPY else dimensions
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # not the accelerators' as well
            losses = {str(layer): configuration.build(d, classes) for layer, d in acts_on.items()}
        self.name = configuration.name.replace("-", "_")
        self.with_cross_entropy = configuration.with_cross_entropy
        self.has_anchors = configuration.has_anchors
        self.losses = nn.ModuleDict(losses)

    @property
    def calibrates(self) -> bool:
        """Whether a loss looks at all training images after the last step."""
        return any(type(loss).calibrate is not FeatureLoss.calibrate for _, loss in self.by_layer())

    def forward(self, logits: Tensor, features: Features, labels: Tensor) -> dict[str, Tensor]:
        """The terms of the loss by name, each a scalar; their sum is minimised.

        Under autocast as without: 8 bits would lose the distances within a class.

        Args:
            logits: (N, K) of the classifier's final layer; not looked at if it has none.
            features: {layer: (N, D)}.
            labels: int64 (N,).
        """
        terms = {}
        with torch.autocast(labels.device.type, enabled=False):
            if self.with_cross_entropy:
                terms["cross_entropy"] = F.cross_entropy(logits, labels)
            if self.losses:
                terms[self.name] = torch.stack(
                    [loss(features[layer], labels) for layer, loss in self.by_layer()]
                ).sum()
        return terms

    def per_image(self, logits: Tensor, features: Features, labels: Tensor) -> Tensor:
        """The joint loss of each image, (N,): what an adaptive attack maximises.

        Under autocast as without.

        Args:
            logits: (N, K) that the model answers by, whichever way it decides a class.
            features: {layer: (N, D)}.
            labels: int64 (N,).
        """
        with torch.autocast(labels.device.type, enabled=False):
            total = F.cross_entropy(logits, labels, reduction="none")
            for layer, loss in self.by_layer():
                total = total + loss.per_image(features[layer], labels)
        return total

    def initialise(self, features: Features, labels: Tensor) -> None:
        """Set each loss's own parameters from training features {layer: (N, D)}."""
        for layer, loss in self.by_layer():
            loss.initialise(features[layer], labels)

    def calibrate(self, features: Features, labels: Tensor) -> None:
        """Set what inference needs from the features {layer: (N, D)} of all training images."""
        for layer, loss in self.by_layer():
            loss.calibrate(features[layer], labels)

    def deepest(self) -> tuple[int, FeatureLoss]:
        """The deepest feature layer and its loss."""
        return max(self.by_layer(), key=lambda pair: pair[0])

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """All losses' own parameters with their learning rates."""
        return [
            group for _, loss in self.by_layer() for group in loss.parameter_groups(learning_rate)
        ]

    def by_layer(self) -> list[tuple[int, FeatureLoss]]:
        """The feature layers with the loss on each."""
        return [(int(layer), cast(FeatureLoss, loss)) for layer, loss in self.losses.items()]


class DeepSoftmax(FeatureLoss):
    r"""Cross-entropy of a fully connected layer FC(K) on the features.

    .. math::

        -\log \operatorname{softmax}_y \left( W \frac{f - \bar{f}}{s} + b \right)

    The features enter FC(K) less their mean and in units of their root mean square length, both
    as they are when the loss first acts. That leaves the functions FC(K) can be as they are, and
    lets one learning rate fit every layer, whatever the size of its features: the curvature of
    cross-entropy in the weights is at most the squared length of (f, 1) over 2, with 1 for the
    bias, in these units 1 on average, so plain SGD is stable at rates below 2. The schedule's rate
    for a loss's own parameters, 0.5, is a quarter of that because features grow in training.

    Args:
        dimension: of the features, D.
        classes: number of classes, K.
        weight: factor on the cross-entropy.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dimension: int, classes: int, *, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.classifier = nn.Linear(dimension, classes)
        self.register_buffer("mean", torch.zeros(dimension))
        self.register_buffer("scale", torch.ones(()))

    def initialise(self, features: Tensor, labels: Tensor) -> None:  # noqa: ARG002 - of any class
        """Set the mean and the unit of the features."""
        with torch.no_grad():
            self.mean.copy_(features.mean(dim=0))
            lengths = (features - self.mean).square().sum(dim=1)
            self.scale.copy_(lengths.mean().sqrt().clamp_min(1e-6))

    def per_image(self, features: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each image, (N,)."""
        logits = self.classifier((features - self.mean) / self.scale)
        return self.weight * F.cross_entropy(logits, labels, reduction="none")


def squared_distances(features: Tensor, points: Tensor) -> Tensor:
    """Squared Euclidean distances (N, K) between features (N, D) and points (K, D).

    Through inner products, because differences would be N x K x D numbers; in float64 and around
    the points' mean, so that the small distances this package is about are not lost. Autocast
    leaves float64 alone.
    """
    centre = points.detach().mean(dim=0)
    near, far = features.double() - centre, points.double() - centre
    lengths = near.square().sum(dim=1)[:, None] + far.square().sum(dim=1)
    squared = torch.addmm(lengths, near, far.T, alpha=-2).clamp_min(0)
    return squared.to(torch.promote_types(features.dtype, points.dtype))


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The mean features (K, D) of each class; the overall mean for a class without images."""
    means = features.mean(dim=0).repeat(classes, 1)
    for label in torch.unique(labels).tolist():
        means[label] = features[labels == label].mean(dim=0)
    return means
