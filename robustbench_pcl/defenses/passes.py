"""A training pass whose images do not all count alike."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustbench_pcl.errors import UserError
from robustbench_pcl.losses.criterion import Criterion
from robustbench_pcl.losses.supervised import Step, SupervisedModel


@dataclass(frozen=True)
class Pass:
    """What the network made of some images of a batch.

    Attributes:
        logits: (N, K) of the final layer.
        features: {layer: (N, D)} of the tapped layers.
        labels: int64 (N,).
    """

    logits: Tensor
    features: dict[int, Tensor]
    labels: Tensor

    def take(self, rows: slice) -> Pass:
        """The same of some of the images."""
        features = {layer: values[rows] for layer, values in self.features.items()}
        return Pass(self.logits[rows], features, self.labels[rows])

    def terms(
        self, criterion: Criterion, prefix: str = "", weight: float = 1.0
    ) -> dict[str, Tensor]:
        """The criterion's terms on these images alone.

        Args:
            criterion: of the model.
            prefix: in front of the terms' names.
            weight: on all of them.
        """
        found = criterion(self.logits, self.features, self.labels)
        return {prefix + name: weight * value for name, value in found.items()}

    def step(self, terms: dict[str, Tensor]) -> Step:
        """A step that minimises ``terms`` and counts how many of these images were right."""
        correct = (self.logits.detach().argmax(dim=1) == self.labels).sum()
        return Step(terms, correct, len(self.labels))


def passed(model: SupervisedModel, images: Tensor, labels: Tensor) -> Pass:
    """Pass images (N, C, H, W) with labels (N,) through the network, once.

    Raises:
        UserError: the network has no final layer whose logits a defence could act on.
    """
    if not model.criterion.with_cross_entropy:
        raise UserError(
            f"A model trained with {model.criterion.name} has no final layer for this defense "
            "to act on.",
            "Take the defense with another loss, or the loss with madry or without a defense.",
        )
    logits, features = model.classifier.features(images)
    return Pass(logits, features, labels)
