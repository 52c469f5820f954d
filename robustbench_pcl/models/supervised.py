"""A classifier with the criterion that supervises it: what is trained, stored and attacked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustbench_pcl.errors import UserError
from robustbench_pcl.losses.criterion import Criterion, Features, squared_distances
from robustbench_pcl.models.classifier import Classifier, Ensemble
from robustbench_pcl.models.shares import in_shares
from robustbench_pcl.recipe import NEAREST_SHARPNESS, Inference


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
        classifier: from images to final logits and features, one network or several.
        criterion: what trains it.
        inference: how a class is decided: "softmax" by the final logits, "nearest" by Eq. 7.
        memory: what a defence keeps from step to step; part of the state, and not used here.

    Raises:
        UserError: the criterion does not train what the class is decided by.

    Attributes:
        trained: a scalar, the share of its training that is done; a training keeps it up to date.
    """

    trained: Tensor

    def __init__(
        self,
        classifier: Classifier | Ensemble,
        criterion: Criterion,
        inference: Inference = "softmax",
        memory: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if inference == "softmax" and not criterion.with_cross_entropy:
            raise UserError(
                f"A model trained with {criterion.name} has no final layer to classify by.",
                "Classify by the nearest class mean (inference 'nearest').",
            )
        if inference == "nearest" and not (criterion.has_anchors and criterion.losses):
            raise UserError(
                f"The loss {criterion.name} gives the classes no points for features to be near.",
                "Classify by softmax, or train with pcl, center, contrastive or triplet.",
            )
        self.classifier = classifier
        self.criterion = criterion
        self.by_distance = inference == "nearest"
        self.memory = memory
        self.register_buffer("trained", torch.ones(()), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The logits (N, K) that the class is decided by, of images (N, C, H, W)."""
        logits, features = self.classifier.features(images)
        return nearest(self.criterion, features) if self.by_distance else logits

    def step(self, images: Tensor, labels: Tensor) -> Step:
        """The criterion's terms on a batch, and how many of its images are classified right."""
        logits, features = in_shares(self.classifier.features, images)
        terms = self.criterion(logits, features, labels)
        with torch.no_grad():
            deciding = nearest(self.criterion, features) if self.by_distance else logits
        return Step(terms, (deciding.argmax(dim=1) == labels).sum(), len(labels))

    def joint_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Each image's cross-entropy and losses on features, (N,), and :meth:`forward`'s logits."""
        logits, features = self.classifier.features(images)
        deciding = nearest(self.criterion, features) if self.by_distance else logits
        return self.criterion.per_image(deciding, features, labels), deciding

    def prototype_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """How much nearer the nearest wrong prototype is than the own one, (N,), and logits (N, K).

        Squared distances, in units of their mean between two prototypes, summed over the layers
        that have any; prototypes are the points that stand for the classes (Eq. 7).

        Raises:
            UserError: the loss that it was trained with gives the classes no points.
        """
        logits, features = self.classifier.features(images)
        deciding = nearest(self.criterion, features) if self.by_distance else logits
        own = F.one_hot(labels, logits.shape[1]).bool()
        total = torch.zeros_like(logits[:, 0])
        for layer, anchors in self.prototypes().items():
            squared = squared_distances(features[layer], anchors)
            wrong = squared.masked_fill(own, torch.inf).amin(dim=1)
            total = total + (squared[own] - wrong) / apart(anchors)
        return total, deciding

    def feature_loss(self, images: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distance of each image's features from the clean ones, (N,), and logits (N, K).

        In units of the clean features' squared length, summed over the feature layers.

        Args:
            images: float (N, C, H, W).
            clean: float (N, D), what :meth:`all_features` gives of the clean images.
        """
        logits, features = self.classifier.features(images)
        deciding = nearest(self.criterion, features) if self.by_distance else logits
        widths = [layer.shape[1] for layer in features.values()]
        total = torch.zeros_like(logits[:, 0])
        for layer, start in zip(features.values(), torch.split(clean, widths, dim=1), strict=True):
            squared = (layer - start).square().sum(dim=1)
            total = total + squared / start.square().sum(dim=1).clamp_min(1e-12)
        return total, deciding

    def all_features(self, images: Tensor) -> Tensor:
        """The features of all feature layers, one after the other, (N, D).

        Raises:
            UserError: there is no feature layer.
        """
        _, features = self.classifier.features(images)
        if not features:
            raise UserError(
                "The model has no feature layers to attack.",
                "Attack one that has, such as ours, or leave the loss feature out.",
            )
        return torch.cat(list(features.values()), dim=1)

    @property
    def carried_losses(self) -> tuple[str, ...]:
        """The losses on features that attacks can maximise."""
        if not self.criterion.by_layer():
            return ()
        return ("joint", "feature", *["prototype"] * self.criterion.has_anchors)

    def prototypes(self) -> dict[int, Tensor]:
        """The points (K, D) that stand for the classes, by feature layer.

        Raises:
            UserError: there are none.
        """
        losses = self.criterion.by_layer() if self.criterion.has_anchors else []
        if not losses:
            raise UserError(
                "The model has no prototypes to attack.",
                "Attack one that has, such as ours or center, or leave the loss prototype out.",
            )
        return {layer: loss.anchors().detach() for layer, loss in losses}


def nearest(criterion: Criterion, features: Features) -> Tensor:
    """Logits (N, K) whose largest is the class with the nearest anchor (Eq. 7).

    The anchors are those of the deepest feature layer. As logits, -|f - a_j|^2 / s: their largest
    is Eq. 7's answer whatever s is, and their differences are linear in the features, as a final
    layer's would be. But s decides how well an attack on cross-entropy can follow them. In the
    features' own units (s = 1), cross-entropy is exactly 0 in float32 where features are large,
    and the attack fails for want of a gradient; where s is large, it pushes an image away from the
    mean of all classes rather than towards the nearest one. Here s is the mean squared distance
    between two anchors, divided by 16, so an image on its own anchor has a logit about 16 above
    the others. Between 8 and 32, PGD on cross-entropy finds the most errors, more than on the
    logit margin: 4 to 9 points more than at 1 and 3 to 10 more than at 128 (20 steps of eps 0.1 on
    500 digits; pcl, center, contrastive and triplet; one seed).

    Args:
        criterion: with which the network is trained; its gradient reaches the features, not the
            anchors.
        features: {layer: (N, D)}.
    """
    layer, loss = criterion.deepest()
    anchors = loss.anchors().detach()
    return -NEAREST_SHARPNESS / apart(anchors) * squared_distances(features[layer], anchors)


def apart(anchors: Tensor) -> Tensor:
    """The mean squared distance between two of the points (K, D), a scalar."""
    # The squared distances between all pairs average to twice the variance, summed over D.
    return (2 * anchors.var(dim=0).sum()).clamp_min(1e-12)
