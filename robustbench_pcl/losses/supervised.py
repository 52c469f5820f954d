"""A classifier together with the criterion that supervises it: what is trained and stored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_pcl.losses.criterion import Criterion
from robustbench_pcl.losses.inference import inference_rule
from robustbench_pcl.models.classifier import Classifier
from robustbench_pcl.models.ensemble import Ensemble


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

    Args:
        classifier: from images to final logits and tapped features, one network or several.
        criterion: what trains it.
        inference: how it answers: "softmax" by the final logits, "nearest" by Eq. 7.
        memory: what a defence keeps from step to step; part of the state, and not used here.

    Raises:
        UserError: the criterion does not train what the inference rule needs.
    """

    def __init__(
        self,
        classifier: Classifier | Ensemble,
        criterion: Criterion,
        inference: str = "softmax",
        memory: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self._rule = inference_rule(inference, criterion)
        self.classifier = classifier
        self.criterion = criterion
        self.memory = memory

    def forward(self, images: Tensor) -> Tensor:
        """The inference rule's logits (N, K) of images (N, C, H, W)."""
        return self._rule.logits(self.criterion, *self.classifier.features(images))

    def step(self, images: Tensor, labels: Tensor) -> Step:
        """The criterion's terms on a batch, and how many images the inference rule has right."""
        logits, features = self.classifier.features(images)
        terms = self.criterion(logits, features, labels)
        with torch.no_grad():
            answers = self._rule.logits(self.criterion, logits, features).argmax(dim=1)
        return Step(terms, (answers == labels).sum(), len(labels))

    def joint_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Each image's cross-entropy and losses on features, (N,), and the rule's logits (N, K)."""
        logits, features = self.classifier.features(images)
        logits = self._rule.logits(self.criterion, logits, features)
        return self.criterion.per_image(logits, features, labels), logits
