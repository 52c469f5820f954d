"""Deep supervision: cross-entropy on the logits and a loss at each tapped layer (Eq. 8-10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import CROSS_ENTROPY, LOSSES
from robustbench_pcl.losses.base import FeatureLoss
from robustbench_pcl.registry import build
from robustbench_pcl.specs.base import Part

Features = Mapping[int, Tensor]


class Criterion(nn.Module):
    """The joint loss L = L_CE + tau sum_l L(f^l) of Algorithm 1.

    Without L_CE where the loss goes with no final FC(K) layer (Section 6.3).

    Args:
        losses: one loss a tapped layer; none for plain cross-entropy.
        name: what their sum is called in histories ("pcl").
    """

    def __init__(self, losses: Mapping[int, FeatureLoss], name: str) -> None:
        super().__init__()
        self.name = name
        self.losses = nn.ModuleDict({str(layer): loss for layer, loss in losses.items()})

    @property
    def with_cross_entropy(self) -> bool:
        """Whether the classifier has a final layer, which learns by cross-entropy."""
        return all(loss.with_cross_entropy for _, loss in self._by_layer())

    @property
    def calibrates(self) -> bool:
        """Whether a loss looks at all training images after the last step."""
        return any(
            type(loss).calibrate is not FeatureLoss.calibrate for _, loss in self._by_layer()
        )

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
                    [loss(features[layer], labels) for layer, loss in self._by_layer()]
                ).sum()
        return terms

    def per_image(self, logits: Tensor, features: Features, labels: Tensor) -> Tensor:
        """The joint loss of each image, (N,): what an adaptive attack maximises.

        Under autocast as without.

        Args:
            logits: (N, K) that the model answers by, whichever its rule of inference.
            features: {layer: (N, D)}.
            labels: int64 (N,).
        """
        with torch.autocast(labels.device.type, enabled=False):
            total = F.cross_entropy(logits, labels, reduction="none")
            for layer, loss in self._by_layer():
                total = total + loss.per_image(features[layer], labels)
        return total

    def initialise(self, features: Features, labels: Tensor) -> None:
        """Set each loss's own parameters from training features {layer: (N, D)}."""
        for layer, loss in self._by_layer():
            loss.initialise(features[layer], labels)

    def calibrate(self, features: Features, labels: Tensor) -> None:
        """Set what inference needs from the features {layer: (N, D)} of all training images."""
        for layer, loss in self._by_layer():
            loss.calibrate(features[layer], labels)

    def deepest(self) -> tuple[int, FeatureLoss]:
        """The deepest tapped layer and its loss.

        Raises:
            UserError: no layer carries a loss.
        """
        if not self.losses:
            raise UserError(
                "Plain cross-entropy gives the classes no points for features to be near to.",
                "Classify by softmax, or train with pcl, center, contrastive or triplet.",
            )
        return max(self._by_layer(), key=lambda tapped: tapped[0])

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """All losses' own parameters with their learning rates."""
        return [
            group for _, loss in self._by_layer() for group in loss.parameter_groups(learning_rate)
        ]

    def _by_layer(self) -> list[tuple[int, FeatureLoss]]:
        return [(int(layer), loss) for layer, loss in self.losses.items()]  # type: ignore[misc]


def build_criterion(
    part: Part, dimensions: Mapping[int, int], classes: int, seed: int
) -> Criterion:
    """The criterion of a recipe.

    Args:
        part: the loss by name, with its parameters.
        dimensions: {tapped layer: D} of the features.
        classes: number of classes.
        seed: of parameters that start at random.

    Raises:
        UserError: there is no such loss, or it has no such parameter.
    """
    LOSSES.check(part.name)
    if part.name == CROSS_ENTROPY:
        if part.parameters:
            raise UserError(
                f"Loss {CROSS_ENTROPY} has no parameter called {next(iter(part.parameters))!r}.",
                "It has none at all; parameters go with a loss on features, such as pcl.",
            )
        return Criterion({}, part.name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not the accelerators' as well
        losses = {
            layer: build(LOSSES, part, dimension, classes)
            for layer, dimension in dimensions.items()
        }
    return Criterion(losses, part.name.replace("-", "_"))
