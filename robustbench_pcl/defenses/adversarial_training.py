"""Adversarial training as in Algorithm 1, lines 10 to 13."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustbench_pcl.defenses.base import Defense, craft, training_attack
from robustbench_pcl.losses.supervised import Step, SupervisedModel
from robustbench_pcl.specs.units import parse_eps


@dataclass(frozen=True)
class AdversarialTraining(Defense):
    """Train on each batch's clean images and their adversarial counterparts together.

    Each image's budget is drawn uniformly from [low, high] (Section 6.1: [0.1, 0.5] for MNIST and
    F-MNIST, [0.01, 0.05] for CIFAR and SVHN). The adversarial images maximise the joint loss on
    the model in eval mode.
    """

    attack: str = field(default="fgsm", metadata={"doc": "fgsm, bim, mim or pgd"})
    steps: int = field(default=1, metadata={"doc": "gradient steps"})
    relative_step_size: float = field(default=1.0, metadata={"doc": "step size, as a share of eps"})
    low: float = field(default=0.01, metadata={"doc": "smallest budget, pixels in [0, 1]"})
    high: float = field(default=0.05, metadata={"doc": "largest budget, pixels in [0, 1]"})

    def __post_init__(self) -> None:
        training_attack(self.attack, self.steps, self.relative_step_size)
        for name in ("low", "high"):
            object.__setattr__(self, name, parse_eps(getattr(self, name)))
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")

    def step(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """The criterion's terms on clean and adversarial images, in one batch of 2 N."""
        attack = training_attack(self.attack, self.steps, self.relative_step_size)
        shares = torch.rand((len(images), 1, 1, 1), generator=generator)
        eps = self.low + (self.high - self.low) * shares
        adversarial = craft(attack, model, images, labels, eps=eps, generator=generator)
        return model.step(torch.cat([images, adversarial]), torch.cat([labels, labels]))
