"""Adversarial training with domain adaptation (Song et al. 2019 [46])."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

from pydantic import Field

from robustbench_pcl.attacks.base import Goal
from robustbench_pcl.configuration import Eps, Positive, Scalar
from robustbench_pcl.defenses import Defense, forward_pass
from robustbench_pcl.defenses.adversarial import adversarial_images, answers, training_attack
from robustbench_pcl.lazy import F, nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_pcl.data.datasets import DatasetSpec
    from robustbench_pcl.models.supervised import Step, SupervisedModel

PUBLISHED_EPS = {"fmnist": 0.1, "svhn": 0.02, "cifar10": 4 / 255, "cifar100": 4 / 255}
"""The budgets that [46] trains and measures with; Table 8's."""


class DomainAdaptation(Defense):
    r"""Treat adversarial images as another domain of the same classes, and let the logits not tell.

    Each image meets its adversarial counterpart, made in one step (FGSM) of a fixed budget away
    from the class that the model answers, as in the authors' published code. Minimised are the
    losses on both halves and the three terms below, all on logits:

    .. math::

        \mathcal{L}(x) + \mathcal{L}(x') + \lambda \left( \mathcal{L}_{\text{mean}}
        + \mathcal{L}_{\text{covariance}} + \mathcal{L}_{\text{margin}} \right)

    ``mean_discrepancy``: the L1 distance between the halves' means, divided by K.
    ``covariance_discrepancy``: the L1 distance between their covariances, divided by K^2. The
    authors' code sums over images where a covariance averages, so its term grows with the batch.
    ``margin``: softplus of how much nearer a logit vector is to another class's centre than to its
    own, over both halves; the centres, which start at 0, follow the logits at a rate.
    """

    citation: ClassVar[str] = "Song et al. 2019 [46]"
    makes_adversarial_images: ClassVar[bool] = True

    name: Literal["atda"] = "atda"
    eps: Eps = Field(4 / 255, description="budget, pixels in [0, 1]")
    weight: Positive = Field(1 / 3, description="of the three terms, lambda")
    rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="of the class centres, alpha; above 1 they would overshoot"
    )

    @classmethod
    def settings(cls, data: DatasetSpec, attack_steps: int) -> dict[str, Scalar]:  # noqa: ARG003
        """[46]'s budget where it has one, and the data set's elsewhere."""
        return {"eps": PUBLISHED_EPS.get(data.name, data.eps)}

    def memory(self, classes: int) -> nn.Module:
        """The class centres, (K, K) among the logits; no gradient moves them."""
        centres = nn.Module()
        centres.register_buffer("centres", torch.zeros(classes, classes))
        return centres

    def step(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """The criterion's terms on clean and adversarial images, and the adaptation's.

        The adaptation's are computed in float32 also under autocast. The centres move after them.
        """
        adversarial = adversarial_images(
            training_attack("fgsm", 1, 1.0),
            model,
            images,
            Goal(answers(model, images).argmax(dim=1)),
            eps=torch.full((len(images), 1, 1, 1), self.eps),
            generator=generator,
        )
        both = forward_pass(model, torch.cat([images, adversarial]), torch.cat([labels, labels]))
        clean, moved = both.take(slice(len(images))), both.take(slice(len(images), None))
        terms = {**clean.terms(model), **moved.terms(model, "adversarial_")}
        centres = cast("Tensor", cast("nn.Module", model.memory).centres)
        with torch.autocast(images.device.type, enabled=False):
            logits = both.logits.to(images.dtype)
            adaptation = self._adaptation(logits, both.labels, centres)
            centres.copy_(followed(centres, logits.detach(), labels.repeat(2), self.rate))
        return both.step({**terms, **adaptation})

    def _adaptation(self, logits: Tensor, labels: Tensor, centres: Tensor) -> dict[str, Tensor]:
        """The three terms on logits (2 N, K), the clean ones first."""
        clean, adversarial = logits.chunk(2)
        means = (clean.mean(dim=0) - adversarial.mean(dim=0)).abs().mean()
        covariances = (torch.cov(clean.T) - torch.cov(adversarial.T)).abs().mean()
        return {
            "mean_discrepancy": self.weight * means,
            "covariance_discrepancy": self.weight * covariances,
            "margin": self.weight * margin(centres, logits, labels),
        }


def margin(centres: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """How much nearer logits (N, K) are to another class's centre than to their own, a scalar.

    The mean over images and other classes of softplus(|z - c_y| - |z - c_j|), in L1 distances.
    """
    distances = (logits[:, None] - centres).abs().sum(dim=2)
    own = distances.gather(1, labels[:, None])
    others = ~F.one_hot(labels, len(centres)).bool()
    nearer = F.softplus(own - distances) * others
    return nearer.sum() / (len(labels) * (len(centres) - 1))


def followed(centres: Tensor, logits: Tensor, labels: Tensor, rate: float) -> Tensor:
    """Centres (K, K) moved by rate * sum over their class of (z - c) / (1 + images of the class).

    Args:
        centres: where they are.
        logits: (N, K), without a gradient.
        labels: int64 (N,).
        rate: how far they follow.
    """
    members = F.one_hot(labels, len(centres)).to(logits.dtype)
    counts = members.sum(dim=0)[:, None]
    return centres + rate * (members.T @ logits - counts * centres) / (1 + counts)
