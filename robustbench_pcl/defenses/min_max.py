"""Min-max adversarial training (Madry et al. 2017; Eq. 3)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustbench_pcl.defenses.base import Defense, craft, training_attack
from robustbench_pcl.losses.supervised import Step, SupervisedModel
from robustbench_pcl.specs.units import parse_eps


@dataclass(frozen=True)
class MinMax(Defense):
    """Train only on adversarial images, found by PGD with one fixed budget."""

    eps: float = field(default=8 / 255, metadata={"doc": "budget, pixels in [0, 1]"})
    steps: int = field(default=7, metadata={"doc": "PGD steps"})
    relative_step_size: float = field(
        default=0.25, metadata={"doc": "step size, as a share of eps"}
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", parse_eps(self.eps))
        training_attack("pgd", self.steps, self.relative_step_size)

    def step(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """The criterion's terms on the adversarial images."""
        attack = training_attack("pgd", self.steps, self.relative_step_size)
        eps = torch.full((len(images), 1, 1, 1), self.eps)
        adversarial = craft(attack, model, images, labels, eps=eps, generator=generator)
        return model.step(adversarial, labels)
