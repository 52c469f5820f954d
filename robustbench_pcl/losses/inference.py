"""How a model answers: by its final layer, or by the nearest class anchor (Eq. 7)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from robustbench_pcl.errors import UserError, unknown_name
from robustbench_pcl.losses.base import squared_distances
from robustbench_pcl.losses.criterion import Criterion, Features
from robustbench_pcl.specs.recipe import NEAREST_SHARPNESS


class InferenceRule(ABC):
    """From one pass through the network to the logits that it answers by."""

    @abstractmethod
    def check(self, criterion: Criterion) -> None:
        """Refuse a criterion that trains nothing this rule could answer by.

        Raises:
            UserError: it does not.
        """

    @abstractmethod
    def logits(self, criterion: Criterion, logits: Tensor, features: Features) -> Tensor:
        """The answer's logits (N, K).

        Args:
            criterion: with which the network is trained.
            logits: (N, K) of the final layer, if there is one.
            features: {layer: (N, D)} of the same pass.
        """


class Softmax(InferenceRule):
    """The final layer's logits."""

    def check(self, criterion: Criterion) -> None:
        """Refuse a criterion that goes without a final layer."""
        if not criterion.with_cross_entropy:
            raise UserError(
                f"A model trained with {criterion.name} has no final layer to classify by.",
                "Classify by the nearest class mean (inference 'nearest').",
            )

    def logits(
        self,
        criterion: Criterion,  # noqa: ARG002 - the final layer is enough
        logits: Tensor,
        features: Features,  # noqa: ARG002
    ) -> Tensor:
        """The final layer's logits as they are."""
        return logits


class Nearest(InferenceRule):
    """The class whose anchor is nearest to the features of the deepest tapped layer (Eq. 7).

    As logits, -|f - a_j|^2 / s: their largest is Eq. 7's answer whatever s is, and their
    differences are linear in the features, as a final layer's would be. But s decides how well an
    attack on cross-entropy can follow them. In the features' own units (s = 1), cross-entropy is
    exactly 0 in float32 where features are large, and the attack fails for want of a gradient;
    where s is large, it pushes an image away from the mean of all classes rather than towards the
    nearest one. Here s is the mean squared distance between two anchors, divided by 16, so an
    image on its own anchor has a logit about 16 above the others. Between 8 and 32, PGD on
    cross-entropy finds the most errors, more than on the logit margin: 4 to 9 points more than at
    1 and 3 to 10 more than at 128 (20 steps of eps 0.1 on 500 digits; pcl, center, contrastive and
    triplet; one seed).
    """

    def check(self, criterion: Criterion) -> None:
        """Refuse a criterion without anchors."""
        _, loss = criterion.deepest()
        loss.anchors()

    def logits(
        self,
        criterion: Criterion,
        logits: Tensor,  # noqa: ARG002 - the distances take their place
        features: Features,
    ) -> Tensor:
        """Negative squared distances; their gradient reaches the features, not the anchors."""
        layer, loss = criterion.deepest()
        anchors = loss.anchors().detach()
        # The squared distances between all pairs average to twice the variance, summed over D.
        apart = 2 * anchors.var(dim=0).sum()
        sharpness = NEAREST_SHARPNESS / apart.clamp_min(1e-12)
        return -sharpness * squared_distances(features[layer], anchors)


INFERENCE: dict[str, InferenceRule] = {"softmax": Softmax(), "nearest": Nearest()}


def inference_rule(name: str, criterion: Criterion) -> InferenceRule:
    """The rule with that name, for a model trained with ``criterion``.

    Raises:
        UserError: there is no such rule, or the criterion does not train what it needs.
    """
    if name not in INFERENCE:
        raise unknown_name("inference rule", name, INFERENCE)
    rule = INFERENCE[name]
    rule.check(criterion)
    return rule
