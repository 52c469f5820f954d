"""What every attack shares: its call, its checks, and the loop of the sign-gradient attacks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.losses import attack_loss
from robustbench_pcl.attacks.victim import Victim
from robustbench_pcl.specs.units import parse_eps

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Goal:
    """What an attack wants of each image.

    Attributes:
        labels: int64 (N,), the classes to move away from, or the ones to reach.
        targeted: the labels are to be reached.
    """

    labels: Tensor
    targeted: bool = False

    @property
    def sign(self) -> int:
        """+1 where the loss on ``labels`` is to grow, -1 where it is to shrink."""
        return -1 if self.targeted else 1

    def reached(self, logits: Tensor) -> Tensor:
        """Boolean (N,): which images the model classifies as the attacker wants."""
        hit = logits.argmax(dim=1) == self.labels
        return hit if self.targeted else ~hit

    def take(self, rows: Tensor) -> Goal:
        """The goal of some of the images; ``rows`` is an index or a boolean mask."""
        return Goal(self.labels[rows], self.targeted)


@dataclass(frozen=True)
class Attack(ABC):
    """An attack is its parameters; calling it makes adversarial images.

    A member of the family is a frozen dataclass whose fields carry ``doc`` in their metadata; it
    writes :meth:`perturb`.
    """

    norm: ClassVar[Norm]
    random_start: ClassVar[bool] = False

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        targets: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return adversarial images, of the shape, type and device of ``images``.

        The model is attacked in eval mode and left as it was.

        Args:
            model: maps images to logits (N, K); normalisation, if any, is inside it.
            images: float (N, C, H, W) in [0, 1].
            labels: int64 (N,), true classes.
            targets: int64 (N,), the classes to reach; None for an untargeted attack.
            generator: of the random start, on the CPU. Each image draws a seed of its own from
                it, so the result does not depend on how images are cut into batches.

        Raises:
            ValueError: images are not floats in [0, 1], or labels do not fit them.
            UserError: the model cannot be attacked with the attack's loss.
        """
        _check(images, labels, targets)
        goal = Goal(labels if targets is None else targets, targets is not None)
        seeds = draw_seeds(len(images), generator or torch.Generator().manual_seed(0))
        with Victim(model) as victim:
            return self.perturb(victim, images.detach(), goal, seeds)

    @abstractmethod
    def perturb(self, victim: Victim, images: Tensor, goal: Goal, seeds: Tensor) -> Tensor:
        """Make adversarial images; no image's result may depend on the others.

        Args:
            victim: the model, frozen.
            images: float (N, C, H, W) in [0, 1].
            goal: what to do to each.
            seeds: int64 (N,), one an image.
        """


@dataclass(frozen=True)
class SignGradientAttack(Attack):
    """Steps along the sign of the loss's gradient inside an L-infinity ball (Eq. 16-19, 22, 23).

    A member says where it starts and what it does with the gradient; this class owns the loop,
    the projection on the ball and on [0, 1].
    """

    norm: ClassVar[Norm] = "linf"

    eps: float = field(default=8 / 255, metadata={"doc": "largest change of a pixel, in [0, 1]"})
    steps: int = field(default=10, metadata={"doc": "gradient steps"})
    relative_step_size: float = field(default=0.1, metadata={"doc": "step size, as a share of eps"})
    loss: str = field(
        default="cross-entropy", metadata={"doc": "cross-entropy, margin, or joint (adaptive)"}
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", parse_eps(self.eps))
        attack_loss(self.loss)
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; an attack takes at least one")
        if not self.relative_step_size > 0:
            raise ValueError(f"relative_step_size is {self.relative_step_size}, not positive")

    def perturb(self, victim: Victim, images: Tensor, goal: Goal, seeds: Tensor) -> Tensor:
        """Run the attack with its own ``eps`` on every image."""
        noise = uniform_noise(images, seeds) if self.random_start else torch.zeros_like(images)
        eps = torch.full((len(images), 1, 1, 1), self.eps, dtype=images.dtype, device=images.device)
        return self.within(victim, images, goal, eps, noise)

    def within(
        self, victim: Victim, images: Tensor, goal: Goal, eps: Tensor, noise: Tensor
    ) -> Tensor:
        """Run the attack with a budget for each image.

        Args:
            victim: the model, frozen.
            images: float (N, C, H, W) in [0, 1].
            goal: what to do to each.
            eps: float (N, 1, 1, 1), budgets.
            noise: float (N, C, H, W) in [-1, 1], where to start, as a share of the budget.
        """
        lowest, highest = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
        loss = attack_loss(self.loss)
        adversarial = (images + eps * noise).clamp(lowest, highest)
        direction = torch.zeros_like(images)
        for _ in range(self.steps):
            gradient = goal.sign * victim.gradient(loss, adversarial, goal.labels)
            direction = self.direction(gradient, direction)
            step = self.relative_step_size * eps * direction.sign()
            adversarial = (adversarial + step).clamp(lowest, highest)
        return adversarial

    def direction(self, gradient: Tensor, previous: Tensor) -> Tensor:  # noqa: ARG002 - for MIM
        """The direction (N, C, H, W) whose sign is followed; by default the gradient itself."""
        return gradient


def draw_seeds(count: int, generator: torch.Generator) -> Tensor:
    """One seed an image, int64 (count,)."""
    return torch.randint(2**62, (count,), generator=generator)


def uniform_noise(images: Tensor, seeds: Tensor) -> Tensor:
    """Noise in [-1, 1] like ``images``, each image's from its own seed, the same on any device."""
    generator = torch.Generator()
    shape, kind = images.shape[1:], images.dtype
    drawn = [
        torch.rand(shape, generator=generator.manual_seed(seed), dtype=kind)
        for seed in seeds.tolist()
    ]
    return (torch.stack(drawn) * 2 - 1).to(images.device) if drawn else torch.zeros_like(images)


def _check(images: Tensor, labels: Tensor, targets: Tensor | None) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be float (N, C, H, W), not {tuple(images.shape)}")
    if len(images) and not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError("images must be pixels in [0, 1]; put normalisation inside the model")
    for name, value in (("labels", labels), ("targets", targets)):
        if value is not None and (value.shape != images.shape[:1] or value.dtype != torch.int64):
            raise ValueError(f"{name} must be int64 (N,) with N = {len(images)}")
