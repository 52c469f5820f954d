"""Carlini and Wagner's L2 attack (Carlini and Wagner 2017; Section 5, Eq. 20 and 21)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.base import Attack, Goal, Norm
from robustbench_pcl.attacks.losses import logit_margin
from robustbench_pcl.attacks.victim import Victim

STRETCH = 1.01
"""Eq. 20's ``(tanh(zeta) + 1) / 2`` reaches 0 and 1 only at infinity, where its gradient is zero:
a pixel of exactly 0 or 1, as most of MNIST's are, would never move. Here the tanh is stretched by
this factor and zeta kept where the pixel is inside [0, 1], so those pixels start at a finite zeta
and move like the others."""

PATIENCE_SHARE, PATIENCE_STEPS = 10, 50
"""An image stops when its objective has not improved during a tenth of the steps (as in Carlini
and Wagner's own code, which looks at the whole batch instead), but not during fewer than 50: Adam's
first overshoot takes that long, and a short schedule that stopped in it would find perturbations
that are half as large again as needed."""


@dataclass(frozen=True)
class CW(Attack):
    """Minimise |delta|_2^2 + c f(x + delta) by Adam, for each image on its own.

    Returns the adversarial image with the smallest L2 perturbation met on the way, or the clean
    image where none was met. With ``search_steps`` the weight c is searched for each image, first
    by factors of ten, then by bisection (Carlini and Wagner use 9).
    """

    norm: ClassVar[Norm] = "l2"

    c: float = field(default=1.0, metadata={"doc": "weight of the classification term f"})
    steps: int = field(default=1000, metadata={"doc": "Adam steps for each c"})
    learning_rate: float = field(default=0.01, metadata={"doc": "of Adam"})
    confidence: float = field(default=0.0, metadata={"doc": "kappa: logit margin to reach"})
    search_steps: int = field(default=0, metadata={"doc": "further values of c, for each image"})

    def __post_init__(self) -> None:
        for name, value in (("c", self.c), ("learning_rate", self.learning_rate)):
            if not value > 0:
                raise ValueError(f"{name} is {value}; it must be positive")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; an attack takes at least one")
        if self.search_steps < 0:
            raise ValueError(f"search_steps is {self.search_steps}; it cannot be negative")

    def perturb(self, victim: Victim, images: Tensor, goal: Goal, seeds: Tensor) -> Tensor:  # noqa: ARG002 - nothing random
        """Run the attack, searching c when asked to."""
        best = images.clone()
        shortest = images.new_full((len(images),), torch.inf)
        low = torch.zeros_like(shortest)
        high = torch.full_like(shortest, torch.inf)
        c = torch.full_like(shortest, self.c)
        for _ in range(self.search_steps + 1):
            found, distance = self._minimise(victim, images, goal, c)
            closer = distance < shortest
            best = torch.where(closer[:, None, None, None], found, best)
            shortest = torch.where(closer, distance, shortest)
            fooled = distance.isfinite()
            high = torch.where(fooled, c, high)
            low = torch.where(fooled, low, c)
            c = torch.where(high.isfinite(), (low + high) / 2, c * 10)
        return best

    def _minimise(
        self, victim: Victim, images: Tensor, goal: Goal, c: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The best images for these weights, and their L2 distances (infinite where none)."""
        best, shortest = images.clone(), images.new_full((len(images),), torch.inf)
        search = _Search(images, goal, c)
        rows = torch.arange(len(images), device=images.device)
        patience = max(self.steps // PATIENCE_SHARE, PATIENCE_STEPS)
        for step in range(1, self.steps + 1):
            candidates = search.candidates()
            squared, logits, gradient = self._objective(victim, candidates, search)
            fooled = search.goal.reached(logits) & (self._shortfall(logits, search.goal) <= 0)
            closer = fooled & (squared.sqrt() < shortest[rows])
            best[rows[closer]] = candidates[closer]
            shortest[rows[closer]] = squared[closer].sqrt()
            search.descend(gradient, self.learning_rate)
            if step % patience == 0:
                improving = search.improving()
                rows = rows[improving]
                search.keep(improving)
            if not len(rows):
                break
        return best, shortest

    def _shortfall(self, logits: Tensor, goal: Goal) -> Tensor:
        """Eq. 21 without its lower bound: how far the margin is from ``confidence``, (N,)."""
        return self.confidence - goal.sign * logit_margin(logits, goal.labels)

    def _objective(
        self, victim: Victim, candidates: Tensor, search: _Search
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Squared distances (N,), logits (N, K), and the gradient of Eq. 20 in the pixels."""
        kept: list[Tensor] = []

        def loss(model: nn.Module, images: Tensor, _: Tensor) -> Tensor:
            logits = model(images)
            squared = (images - search.images).square().sum(dim=(1, 2, 3))
            total = squared + search.c * self._shortfall(logits, search.goal).clamp_min(0)
            kept.extend((squared.detach(), logits.detach(), total.detach()))
            return total

        gradient = victim.gradient(loss, candidates, search.goal.labels)
        squared, logits, total = kept
        search.observe(total)
        return squared, logits, gradient


class _Search:
    """Adam in the stretched tanh space, for the images that are still worth it."""

    def __init__(self, images: Tensor, goal: Goal, c: Tensor) -> None:
        self.images, self.goal, self.c = images, goal, c
        self.limit = torch.atanh(torch.tensor(1 / STRETCH, dtype=images.dtype)).item()
        self.zeta = torch.atanh((2 * images - 1) / STRETCH)
        self.first = torch.zeros_like(images)
        self.second = torch.zeros_like(images)
        self.lowest = torch.full_like(c, torch.inf)
        self.milestone = torch.full_like(c, torch.inf)
        self.step = 0

    def candidates(self) -> Tensor:
        """The images at zeta, in [0, 1]."""
        return ((STRETCH * torch.tanh(self.zeta) + 1) / 2).clamp(0, 1)

    def observe(self, total: Tensor) -> None:
        """Take note of the objective's value for each image."""
        self.lowest = torch.minimum(self.lowest, total)

    def descend(self, gradient: Tensor, learning_rate: float) -> None:
        """One step of Adam (Kingma and Ba 2015, Algorithm 1), then back into the box."""
        self.step += 1
        gradient = gradient * STRETCH / 2 * (1 - torch.tanh(self.zeta).square())
        self.first = self.first.lerp(gradient, 0.1)
        self.second = self.second.lerp(gradient.square(), 0.001)
        mean = self.first / (1 - 0.9**self.step)
        spread = (self.second / (1 - 0.999**self.step)).sqrt()
        self.zeta = self.zeta - learning_rate * mean / (spread + 1e-8)
        self.zeta = self.zeta.clamp(-self.limit, self.limit)

    def improving(self) -> Tensor:
        """Boolean (N,): whose objective fell by at least 0.01 % since the last time asked."""
        improved = self.lowest < self.milestone * 0.9999
        self.milestone = self.lowest
        return improved

    def keep(self, kept: Tensor) -> None:
        """Drop the other images."""
        self.goal = self.goal.take(kept)
        for name in ("images", "c", "zeta", "first", "second", "lowest", "milestone"):
            setattr(self, name, getattr(self, name)[kept])
