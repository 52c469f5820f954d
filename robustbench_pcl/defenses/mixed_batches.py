"""Adversarial training with half of each batch adversarial (Kurakin et al. 2017 [31])."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from robustbench_pcl.defenses.base import Defense
from robustbench_pcl.defenses.checks import check_positive
from robustbench_pcl.specs.units import parse_eps

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from robustbench_pcl.data.spec import DatasetSpec
    from robustbench_pcl.losses.supervised import Step, SupervisedModel
    from robustbench_pcl.specs.base import Scalar


@dataclass(frozen=True)
class MixedBatches(Defense):
    """Replace k = m/2 of a batch's m images by adversarial ones, which count less.

    Minimised is

        L = (sum over clean of L + weight * sum over adversarial of L) / (m - k + weight * k).

    The attack takes one step towards the class that the model thinks least likely ("step l.l."):
    [31] found that an attack that uses the true label teaches the model to read the label off the
    perturbation. Budgets are drawn an image from the normal distribution of mean 0 and standard
    deviation high/2, truncated to [0, high]; [31]'s high is 16/255.
    """

    citation: ClassVar[str] = "Kurakin et al. 2017 [31]"
    crafts: ClassVar[bool] = True

    weight: float = field(default=0.3, metadata={"doc": "of an adversarial image, lambda"})
    high: float = field(default=16 / 255, metadata={"doc": "largest budget, pixels in [0, 1]"})

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)
        object.__setattr__(self, "high", parse_eps(self.high))

    @classmethod
    def settings(cls, data: DatasetSpec, attack_steps: int) -> dict[str, Scalar]:  # noqa: ARG003
        """Budgets up to the largest that adversarial training draws on the data set."""
        return {"high": data.training_eps[1]}

    def step(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """The criterion's terms on the clean and on the adversarial images, weighted."""
        import torch

        from robustbench_pcl.attacks.base import Goal
        from robustbench_pcl.defenses.crafting import answers, craft, training_attack
        from robustbench_pcl.defenses.passes import passed

        replaced = len(images) // 2
        kept = len(images) - replaced
        least_likely = Goal(answers(model, images[kept:]).argmin(dim=1), targeted=True)
        adversarial = craft(
            training_attack("fgsm", 1, 1.0),
            model,
            images[kept:],
            least_likely,
            eps=self._budgets(replaced, generator),
            generator=generator,
        )
        found = passed(model, torch.cat([images[:kept], adversarial]), labels)
        total = kept + self.weight * replaced
        return found.step(
            {
                **found.take(slice(kept)).terms(model.criterion, weight=kept / total),
                **found.take(slice(kept, None)).terms(
                    model.criterion, "adversarial_", self.weight * replaced / total
                ),
            }
        )

    def _budgets(self, count: int, generator: torch.Generator) -> Tensor:
        """Budgets (count, 1, 1, 1) by inverting the truncated distribution function."""
        import torch

        levels = torch.rand((count, 1, 1, 1), generator=generator)
        deviations = math.sqrt(2) * torch.erfinv(levels * math.erf(2 / math.sqrt(2)))
        return deviations * self.high / 2
