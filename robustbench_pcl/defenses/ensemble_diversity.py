"""Adaptive diversity promoting training of an ensemble (Pang et al. 2019 [16])."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, cast

from robustbench_pcl.defenses.base import Defense
from robustbench_pcl.defenses.checks import check_positive

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from robustbench_pcl.losses.supervised import Step, SupervisedModel
    from robustbench_pcl.models.ensemble import Ensemble


@dataclass(frozen=True)
class EnsembleDiversity(Defense):
    """Train three networks to agree on the label and to differ on the other classes.

    Minimised is the mean over images of

        sum over members of L_CE - alpha * H(mean prediction) - beta * log(ensemble diversity).

    H is Shannon's entropy; the diversity is the squared volume that the members' predictions of
    the other classes span.
    """

    citation: ClassVar[str] = "Pang et al. 2019 [16]"
    members: ClassVar[int] = 3

    alpha: float = field(default=2.0, metadata={"doc": "weight of the entropy"})
    beta: float = field(default=0.5, metadata={"doc": "weight of the diversity"})

    def __post_init__(self) -> None:
        check_positive("alpha", self.alpha)
        check_positive("beta", self.beta)

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
        import torch
        import torch.nn.functional as F

        from robustbench_pcl.defenses.diversity import entropy, log_diversity
        from robustbench_pcl.losses.supervised import Step
        from robustbench_pcl.models.ensemble import log_mean_probabilities

        member_logits = cast("Ensemble", model.classifier).member_logits(images)
        with torch.autocast(images.device.type, enabled=False):
            member_logits = member_logits.to(images.dtype)
            prediction = log_mean_probabilities(member_logits)
            losses = [F.cross_entropy(logits, labels) for logits in member_logits]
            terms = {
                "cross_entropy": torch.stack(losses).sum(),
                "entropy": -self.alpha * entropy(prediction).mean(),
                "diversity": -self.beta * log_diversity(member_logits, labels).mean(),
            }
        correct = (prediction.detach().argmax(dim=1) == labels).sum()
        return Step(terms, correct, len(labels))
