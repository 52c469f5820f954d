"""Adversarial training as in Algorithm 1, lines 10 to 13: it goes with any defence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.defenses.checks import check_walk
from robustbench_pcl.registry import Family, build
from robustbench_pcl.specs.units import parse_eps

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from robustbench_pcl.losses.supervised import SupervisedModel
    from robustbench_pcl.specs.base import Part


@dataclass(frozen=True)
class AdversarialTraining:
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
        ATTACKS.check(self.attack)
        check_walk(self.steps, self.relative_step_size)
        for name in ("low", "high"):
            object.__setattr__(self, name, parse_eps(getattr(self, name)))
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")

    def mixed(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """A batch and its adversarial counterpart, in one of 2 N.

        Args:
            model: in train mode; left in it.
            images: float (N, C, H, W) in [0, 1], augmented.
            labels: int64 (N,).
            generator: on the CPU, for budgets and random starts.

        Returns:
            images: float (2 N, C, H, W), the clean ones first.
            labels: int64 (2 N,).

        Raises:
            UserError: the attack has no budget that could be drawn for each image.
        """
        import torch

        from robustbench_pcl.attacks.base import Goal
        from robustbench_pcl.defenses.crafting import craft, training_attack

        attack = training_attack(self.attack, self.steps, self.relative_step_size)
        shares = torch.rand((len(images), 1, 1, 1), generator=generator)
        eps = self.low + (self.high - self.low) * shares
        adversarial = craft(attack, model, images, Goal(labels), eps=eps, generator=generator)
        return torch.cat([images, adversarial]), torch.cat([labels, labels])


def build_adversarial_training(part: Part) -> AdversarialTraining:
    """The adversarial training of a recipe.

    Args:
        part: the attack by name, and the parameters that differ from the defaults.

    Raises:
        UserError: there is no such attack or it has no L-infinity budget, there is no such
            parameter, or a value is wrong.
    """
    from robustbench_pcl.defenses.crafting import training_attack

    here = f"{__name__}:{AdversarialTraining.__name__}"
    attacks: Family[type[AdversarialTraining]] = Family(
        "training attack", dict.fromkeys(ATTACKS, here)
    )
    made: AdversarialTraining = build(attacks, part, part.name)
    training_attack(made.attack, made.steps, made.relative_step_size)
    return made
