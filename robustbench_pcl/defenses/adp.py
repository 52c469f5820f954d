"""Adaptive diversity promoting training of an ensemble (Pang et al. 2019 [16])."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field

from robustbench_pcl.configuration import Positive
from robustbench_pcl.defenses import Defense, step_of
from robustbench_pcl.lazy import F, LazyModule, torch

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_pcl.models import classifier
    from robustbench_pcl.models.supervised import Step, SupervisedModel
else:
    classifier = LazyModule("robustbench_pcl.models.classifier")

OFFSET = 1e-6
"""On the Gram matrix's diagonal, so that its determinant is above 0, as in [16]'s code."""


class EnsembleDiversity(Defense):
    """Train three networks to agree on the label and to differ on the other classes.

    Minimised is the mean over images of

        sum over members of L_CE - alpha * H(mean prediction) - beta * log(ensemble diversity).

    H is Shannon's entropy; the diversity is the squared volume that the members' predictions of
    the other classes span.
    """

    citation: ClassVar[str] = "Pang et al. 2019 [16]"
    members: ClassVar[int] = 3

    name: Literal["adp"] = "adp"
    alpha: Positive = Field(2.0, description="weight of the entropy")
    beta: Positive = Field(0.5, description="weight of the diversity")

    def step(
        self,
        model: SupervisedModel,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,  # noqa: ARG002 - nothing random
    ) -> Step:
        """The members' cross-entropies, summed, and the two regularisers; ``model`` is an ensemble.

        The regularisers are computed in float32 also under autocast: a determinant of 8 bits would
        be noise.
        """
        member_logits = cast("classifier.Ensemble", model.classifier).member_logits(images)
        with torch.autocast(images.device.type, enabled=False):
            member_logits = member_logits.to(images.dtype)
            prediction = classifier.log_mean_probabilities(member_logits)
            losses = [F.cross_entropy(logits, labels) for logits in member_logits]
            terms = {
                "cross_entropy": torch.stack(losses).sum(),
                "entropy": -self.alpha * entropy(prediction).mean(),
                "diversity": -self.beta * log_diversity(member_logits, labels).mean(),
            }
        return step_of(terms, prediction, labels)


def log_diversity(member_logits: Tensor, labels: Tensor) -> Tensor:
    """The logarithm of each image's ensemble diversity, (N,).

    The determinant of the Gram matrix of the members' non-maximal predictions, which are their
    probabilities of the classes other than the label, each scaled to length 1: the squared volume
    that they span (Pang et al. 2019 [16]). The scaling makes it the same to take softmax over the
    other classes only, where no probability underflows because the label's is near 1.

    Args:
        member_logits: (M, N, K).
        labels: int64 (N,).
    """
    own = labels.view(1, -1, 1).expand(len(member_logits), -1, 1)
    others = member_logits.scatter(2, own, -torch.inf).softmax(dim=2)
    directions = F.normalize(others, dim=2).transpose(0, 1)
    gram = directions @ directions.mT
    offset = OFFSET * torch.eye(len(member_logits)).to(gram)
    logarithms: Tensor = torch.linalg.slogdet(gram + offset).logabsdet
    return logarithms


def entropy(log_probabilities: Tensor) -> Tensor:
    """Shannon entropy in nats, (N,), of distributions given by logarithms (N, K)."""
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)
