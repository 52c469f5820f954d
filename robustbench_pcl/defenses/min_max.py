"""Min-max adversarial training (Madry et al. 2018 [17]; Eq. 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from robustbench_pcl.defenses.base import Defense
from robustbench_pcl.defenses.checks import check_walk
from robustbench_pcl.specs.units import parse_eps

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from robustbench_pcl.data.spec import DatasetSpec
    from robustbench_pcl.losses.supervised import Step, SupervisedModel
    from robustbench_pcl.specs.base import Scalar


@dataclass(frozen=True)
class MinMax(Defense):
    """Train only on adversarial images, found by PGD from a random start with one fixed budget.

    The defaults are [17]'s for CIFAR-10: 8/255 in 7 steps of 2/255.
    """

    citation: ClassVar[str] = "Madry et al. 2018 [17]"
    crafts: ClassVar[bool] = True

    eps: float = field(default=8 / 255, metadata={"doc": "budget, pixels in [0, 1]"})
    steps: int = field(default=7, metadata={"doc": "PGD steps"})
    relative_step_size: float = field(
        default=0.25, metadata={"doc": "step size, as a share of eps"}
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", parse_eps(self.eps))
        check_walk(self.steps, self.relative_step_size)

    @classmethod
    def settings(cls, data: DatasetSpec, attack_steps: int) -> dict[str, Scalar]:
        """The data set's budget; steps of any number that walk 2.5 eps in all."""
        return {
            "eps": data.eps,
            "steps": attack_steps,
            "relative_step_size": 2.5 / attack_steps,
        }

    def step(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """The criterion's terms on the adversarial images."""
        from robustbench_pcl.attacks.base import Goal
        from robustbench_pcl.defenses.crafting import craft, equal_budgets, training_attack

        attack = training_attack("pgd", self.steps, self.relative_step_size)
        eps = equal_budgets(images, self.eps)
        adversarial = craft(attack, model, images, Goal(labels), eps=eps, generator=generator)
        return model.step(adversarial, labels)
