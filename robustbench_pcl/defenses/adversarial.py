"""Training on adversarial images: Algorithm 1, Madry's min-max, Kurakin's mixed batches."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal
from weakref import WeakKeyDictionary

from pydantic import Field

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Goal, draw_seeds
from robustbench_pcl.attacks.fast_model import Shortcuts
from robustbench_pcl.attacks.gradient_descent import GradientDescent
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import Count, Eps, Positive, Scalar
from robustbench_pcl.defenses import Defense, forward_pass
from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import LazyModule, torch

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_pcl.attacks.fast_model import FastModel, Kind
    from robustbench_pcl.data.datasets import DatasetSpec
    from robustbench_pcl.models import shares
    from robustbench_pcl.models.supervised import Step, SupervisedModel
    from robustbench_pcl.recipe import AdversarialTraining
else:
    shares = LazyModule("robustbench_pcl.models.shares")


_COPIES: WeakKeyDictionary[SupervisedModel, dict[Kind, FastModel]] = WeakKeyDictionary()
"""The fast models of models in training, which follow their weights from step to step."""


def with_adversarial_images(
    training: AdversarialTraining,
    model: SupervisedModel,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """A batch and its adversarial counterpart, in one of 2 N (Algorithm 1, lines 10 to 13).

    Each image's budget is drawn uniformly from [low, high] (Section 6.1: [0.1, 0.5] for MNIST and
    F-MNIST, [0.01, 0.05] for CIFAR and SVHN). The adversarial images maximise the joint loss on
    the model in eval mode.

    Args:
        training: the attack and its budgets.
        model: in train mode; left in it.
        images: float (N, C, H, W) in [0, 1], augmented.
        labels: int64 (N,).
        generator: on the CPU, for budgets and random starts.

    Returns:
        images: float (2 N, C, H, W), the clean ones first.
        labels: int64 (2 N,).
    """
    attack = training_attack(training.attack, training.steps, training.relative_step_size)
    drawn = torch.rand((len(images), 1, 1, 1), generator=generator)
    eps = training.low + (training.high - training.low) * drawn
    adversarial = adversarial_images(
        attack, model, images, Goal(labels), eps=eps, generator=generator
    )
    return torch.cat([images, adversarial]), torch.cat([labels, labels])


class MinMax(Defense):
    r"""Train only on adversarial images, found by PGD from a random start with one fixed budget.

    .. math::

        \min_\theta \max_{\| \delta \|_\infty \le \epsilon} \mathcal{L}(x + \delta, y; \theta)

    The defaults are [17]'s for CIFAR-10: 8/255 in 7 steps of 2/255. Eq. 3.
    """

    citation: ClassVar[str] = "Madry et al. 2018 [17]"
    makes_adversarial_images: ClassVar[bool] = True

    name: Literal["madry"] = "madry"
    eps: Eps = Field(8 / 255, description="budget, pixels in [0, 1]")
    steps: Count = Field(7, description="PGD steps")
    relative_step_size: Positive = Field(0.25, description="step size, as a share of eps")

    @classmethod
    def settings(cls, data: DatasetSpec, attack_steps: int) -> dict[str, Scalar]:
        """The data set's budget; steps of any number whose sizes sum to 2.5 eps."""
        return {
            "eps": data.eps,
            "steps": attack_steps,
            "relative_step_size": 2.5 / attack_steps,
        }

    def step(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """The criterion's terms on the adversarial images."""
        attack = training_attack("pgd", self.steps, self.relative_step_size)
        eps = torch.full((len(images), 1, 1, 1), self.eps)
        adversarial = adversarial_images(
            attack, model, images, Goal(labels), eps=eps, generator=generator
        )
        return model.step(adversarial, labels)


class MixedBatches(Defense):
    r"""Replace k = m/2 of a batch's m images by adversarial ones, which count less.

    Minimised is

    .. math::

        \frac{\sum_{\text{clean}} \mathcal{L} + \lambda \sum_{\text{adversarial}} \mathcal{L}}
        {m - k + \lambda k}

    The attack takes one step towards the class that the model thinks least likely ("step l.l."):
    [31] found that an attack that uses the true label teaches the model to read the label off the
    perturbation. Each image's budget is drawn from the normal distribution of mean 0 and standard
    deviation high/2, truncated to [0, high]; [31]'s high is 16/255.
    """

    citation: ClassVar[str] = "Kurakin et al. 2017 [31]"
    makes_adversarial_images: ClassVar[bool] = True

    name: Literal["advtrain"] = "advtrain"
    weight: Positive = Field(0.3, description="of an adversarial image, lambda")
    high: Eps = Field(16 / 255, description="largest budget, pixels in [0, 1]")

    @classmethod
    def settings(cls, data: DatasetSpec, attack_steps: int) -> dict[str, Scalar]:  # noqa: ARG003
        """Budgets up to the largest that adversarial training draws on the data set."""
        return {"high": data.training_eps[1]}

    def step(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """The criterion's terms on the clean and on the adversarial images, weighted."""
        replaced = len(images) // 2
        kept = len(images) - replaced
        adversarial = adversarial_images(
            training_attack("fgsm", 1, 1.0),
            model,
            images[kept:],
            Goal(answers(model, images[kept:]).argmin(dim=1), targeted=True),
            eps=self._budgets(replaced, generator),
            generator=generator,
        )
        found = forward_pass(model, torch.cat([images[:kept], adversarial]), labels)
        clean, moved = found.take(slice(kept)), found.take(slice(kept, None))
        total = kept + self.weight * replaced
        return found.step(
            {
                **clean.terms(model, weight=kept / total),
                **moved.terms(model, "adversarial_", self.weight * replaced / total),
            }
        )

    def _budgets(self, count: int, generator: torch.Generator) -> Tensor:
        """Budgets (count, 1, 1, 1) by inverting the truncated distribution function."""
        levels = torch.rand((count, 1, 1, 1), generator=generator)
        deviations = math.sqrt(2) * torch.erfinv(levels * math.erf(2 / math.sqrt(2)))
        return deviations * self.high / 2


def training_attack(name: str, steps: int, relative_step_size: float) -> GradientDescent:
    """The attack that a model is trained against; it maximises the joint loss (Algorithm 1).

    Raises:
        UserError: there is no such attack, or it has no budget that could be drawn for each image.
    """
    member = ATTACKS[name]
    if not issubclass(member, GradientDescent):
        raise UserError(
            f"{name} has no L-infinity budget to train against.", "Use fgsm, bim, mim or pgd."
        )
    return member.complete(
        {"steps": steps, "relative_step_size": relative_step_size, "loss": AttackLoss.joint}
    )


def adversarial_images(
    attack: GradientDescent,
    model: SupervisedModel,
    images: Tensor,
    goal: Goal,
    *,
    eps: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Adversarial training images (N, C, H, W), made on the model in eval mode.

    Args:
        attack: who makes them.
        model: in train mode; left in it.
        images: float (N, C, H, W) in [0, 1].
        goal: what to do to each.
        eps: (N, 1, 1, 1), budgets in pixels of [0, 1], on any device.
        generator: on the CPU, for random starts.
    """
    # The fast model computes as the model itself is being trained.
    reduced = torch.is_autocast_enabled(images.device.type)
    shortcuts = Shortcuts(
        folded=True, precision="bfloat16" if reduced else "float32", compared=False
    )
    seeds = draw_seeds(len(images), generator).to(images.device)
    copies = _COPIES.setdefault(model, {})
    with TargetModel(model, shortcuts, copies=copies) as target:
        budgets = replace(goal, eps=eps.flatten().to(images.device))
        perturb = partial(attack.perturb, target)
        return shares.in_shares(perturb, images, budgets, seeds)


def answers(model: SupervisedModel, images: Tensor) -> Tensor:
    """The model's logits (N, K) in eval mode, without a gradient."""
    with TargetModel(model) as target:
        return shares.in_shares(target.logits, images)
