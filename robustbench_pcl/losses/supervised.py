"""A classifier together with the criterion that supervises it: what is trained and stored."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from robustbench_pcl.losses.criterion import Criterion
from robustbench_pcl.models.classifier import Classifier


@dataclass(frozen=True)
class Step:
    """What a forward pass on a training batch gives.

    Attributes:
        terms: scalars by name, whose sum is minimised.
        correct: scalar, images classified as their label.
        count: images in the pass.
    """

    terms: dict[str, Tensor]
    correct: Tensor
    count: int


class SupervisedModel(nn.Module):
    """Pixels in [0, 1] to logits, with the joint loss of Eq. 8-10 on request.

    The criterion's prototypes are part of the state, so that an adaptive attacker has them.
    """

    def __init__(self, classifier: Classifier, criterion: Criterion) -> None:
        super().__init__()
        self.classifier = classifier
        self.criterion = criterion

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of images (N, C, H, W)."""
        logits: Tensor = self.classifier(images)
        return logits

    def step(self, images: Tensor, labels: Tensor) -> Step:
        """The criterion's terms on a batch."""
        logits, features = self.classifier.features(images)
        terms = self.criterion(logits, features, labels)
        return Step(terms, (logits.detach().argmax(dim=1) == labels).sum(), len(labels))

    def joint_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The joint loss of each image, (N,)."""
        logits, features = self.classifier.features(images)
        return self.criterion.per_image(logits, features, labels)
