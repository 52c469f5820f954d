"""Adversarial training with domain adaptation (Song et al. 2019 [46])."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, cast

from robustbench_pcl.defenses.base import Defense
from robustbench_pcl.defenses.checks import check_positive
from robustbench_pcl.specs.units import parse_eps

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from robustbench_pcl.data.spec import DatasetSpec
    from robustbench_pcl.defenses.class_centres import ClassCentres
    from robustbench_pcl.losses.supervised import Step, SupervisedModel
    from robustbench_pcl.specs.base import Scalar

PUBLISHED_EPS = {"fmnist": 0.1, "svhn": 0.02, "cifar10": 4 / 255, "cifar100": 4 / 255}
"""The budgets that [46] trains and measures with; Table 8's."""


@dataclass(frozen=True)
class DomainAdaptation(Defense):
    """Treat adversarial images as another domain of the same classes, and let the logits not tell.

    Each image meets its adversarial counterpart, made in one step (FGSM) of a fixed budget away
    from the class that the model answers, as in the authors' published code. Minimised are the
    losses on both halves and weight * (the three terms below), all on logits.

    ``mean_discrepancy``: the L1 distance between the halves' means, divided by K.
    ``covariance_discrepancy``: the L1 distance between their covariances, divided by K^2. The
    authors' code sums over images where a covariance averages, so its term grows with the batch.
    ``margin``: softplus of how much nearer a logit vector is to another class's centre than to its
    own, over both halves; the centres, which start at 0, follow the logits at a rate.
    """

    citation: ClassVar[str] = "Song et al. 2019 [46]"
    crafts: ClassVar[bool] = True

    eps: float = field(default=4 / 255, metadata={"doc": "budget, pixels in [0, 1]"})
    weight: float = field(default=1 / 3, metadata={"doc": "of the three terms, lambda"})
    rate: float = field(default=0.1, metadata={"doc": "of the class centres, alpha"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", parse_eps(self.eps))
        check_positive("weight", self.weight)
        check_positive("rate", self.rate)
        if self.rate > 1:
            raise ValueError(f"rate is {self.rate}, above 1: the centres would overshoot")

    @classmethod
    def settings(cls, data: DatasetSpec, attack_steps: int) -> dict[str, Scalar]:  # noqa: ARG003
        """[46]'s budget where it has one, and the data set's elsewhere."""
        return {"eps": PUBLISHED_EPS.get(data.name, data.eps)}

    def memory(self, classes: int) -> nn.Module:
        """The class centres."""
        from robustbench_pcl.defenses.class_centres import ClassCentres

        return ClassCentres(classes)

    def step(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """The criterion's terms on clean and adversarial images, and the adaptation's.

        The adaptation's are computed in float32 also under autocast. The centres move after them.
        """
        import torch

        from robustbench_pcl.attacks.base import Goal
        from robustbench_pcl.defenses.crafting import (
            answers,
            craft,
            equal_budgets,
            training_attack,
        )
        from robustbench_pcl.defenses.passes import passed

        adversarial = craft(
            training_attack("fgsm", 1, 1.0),
            model,
            images,
            Goal(answers(model, images).argmax(dim=1)),
            eps=equal_budgets(images, self.eps),
            generator=generator,
        )
        both = passed(model, torch.cat([images, adversarial]), torch.cat([labels, labels]))
        clean, moved = both.take(slice(len(images))), both.take(slice(len(images), None))
        terms = {
            **clean.terms(model.criterion),
            **moved.terms(model.criterion, "adversarial_"),
        }
        with torch.autocast(images.device.type, enabled=False):
            logits = both.logits.to(images.dtype)
            adaptation = self._adaptation(logits, both.labels, cast("ClassCentres", model.memory))
        return both.step({**terms, **adaptation})

    def _adaptation(
        self, logits: Tensor, labels: Tensor, centres: ClassCentres
    ) -> dict[str, Tensor]:
        """The three terms on logits (2 N, K), the clean ones first; the centres then follow."""
        import torch

        clean, adversarial = logits.chunk(2)
        means = (clean.mean(dim=0) - adversarial.mean(dim=0)).abs().mean()
        covariances = (torch.cov(clean.T) - torch.cov(adversarial.T)).abs().mean()
        margin = centres.margin(logits, labels)
        centres.follow(logits.detach(), labels, self.rate)
        return {
            "mean_discrepancy": self.weight * means,
            "covariance_discrepancy": self.weight * covariances,
            "margin": self.weight * margin,
        }
