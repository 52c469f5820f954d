"""Carlini and Wagner's L2 attack (Carlini and Wagner 2017; Section 5, Eq. 20 and 21)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.base import Norm
from robustbench_pcl.attacks.iterative import IterativeAttack
from robustbench_pcl.attacks.losses import logit_margin
from robustbench_pcl.engine.victim import Evaluation, Victim
from robustbench_pcl.engine.walk import State, taken

STRETCH = 1.01
"""Eq. 20's ``(tanh(zeta) + 1) / 2`` reaches 0 and 1 only at infinity, where its gradient is zero:
a pixel of exactly 0 or 1, as most of MNIST's are, would never move. Here the tanh is stretched by
this factor and zeta kept where the pixel is inside [0, 1], so those pixels start at a finite zeta
and move like the others."""

LIMIT = math.atanh(1 / STRETCH)
"""Of zeta, either way: where the pixel is 0 or 1."""

REFINING_SHARE = 0.4
"""Of the steps: after these an image may stop, and the plain model takes a prepared one's place.
The first overshoot is over then even for images that start close to another class; in bfloat16 to
the end, perturbations would be 0.6 % longer."""

PATIENCE_SHARE, PATIENCE_STEPS = 20, 50
"""An image stops when neither its objective nor its distance has improved during a twentieth of
the steps (Carlini and Wagner's own code looks at the objective of the whole batch during a tenth),
but not during fewer than 50: a short schedule that stopped in Adam's first overshoot would find
perturbations that are half as large again as needed."""


@dataclass(frozen=True)
class CW(IterativeAttack):
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

    def start(self, state: State, seeds: Tensor) -> State:  # noqa: ARG002 - nothing random
        """At the image, with no success yet."""
        images = state["images"]
        nowhere = images.new_full((len(images),), torch.inf)
        searched = {
            "best": images,
            "shortest": nowhere,
            "c": torch.full_like(nowhere, self.c),
            "low": torch.zeros_like(nowhere),
            "high": nowhere,
            "round": torch.zeros_like(state["step"]),
        }
        return {**state, **searched, **_fresh(images)}

    def candidates(self, state: State) -> Tensor:
        """The images at zeta, in [0, 1]."""
        return ((STRETCH * torch.tanh(state["zeta"]) + 1) / 2).clamp(0, 1)

    def objective(self, model: nn.Module, images: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """Eq. 20 with a minus sign, because it is to shrink."""
        logits = model(images)
        squared = (images - state["images"]).square().sum(dim=(1, 2, 3))
        return -squared - state["c"] * self._shortfall(state, logits).clamp_min(0), logits

    def step(self, victim: Victim, state: State, found: Evaluation) -> State:
        """Keep the candidates that are better, then one step of Adam; who is stuck tries another c.

        Candidates count only if the plain model is fooled by them.
        """
        candidates = self.candidates(state)
        distance = (candidates - state["images"]).square().sum(dim=(1, 2, 3)).sqrt()
        closer = self._fooled(state, found.logits) & (distance < state["nearest"])
        if not found.plain and bool(closer.any()):
            logits = victim.logits(candidates[closer])
            closer[closer.clone()] = self._fooled(taken(state, closer), logits)
        nearest = torch.where(closer, distance, state["nearest"])
        better = closer & (distance < state["shortest"])
        state = {
            **self._descended(state, -found.gradient),
            "best": torch.where(better[:, None, None, None], candidates, state["best"]),
            "shortest": torch.where(better, distance, state["shortest"]),
            "nearest": nearest,
            "lowest": torch.minimum(state["lowest"], -found.values),
            "step": state["step"] + 1,
        }
        return self._searched(state)

    def refining(self, state: State) -> Tensor:
        """Boolean (N,): who is close to the end, where the distance is decided."""
        return state["step"] >= REFINING_SHARE * self.steps

    def finished(self, state: State) -> Tensor:
        """Boolean (N,): who has tried every c."""
        return state["round"] > self.search_steps

    def result(self, state: State) -> Tensor:
        """The nearest adversarial images, or the clean ones."""
        return state["best"]

    def _shortfall(self, state: State, logits: Tensor) -> Tensor:
        """Eq. 21 without its lower bound: how far the margin is from ``confidence``, (N,)."""
        return self.confidence - state["sign"] * logit_margin(logits, state["labels"])

    def _fooled(self, state: State, logits: Tensor) -> Tensor:
        return self.reached(state, logits) & (self._shortfall(state, logits) <= 0)

    def _descended(self, state: State, gradient: Tensor) -> State:
        """One step of Adam (Kingma and Ba 2015, Algorithm 1), then back into the box."""
        zeta = state["zeta"]
        step = (state["step"] + 1)[:, None, None, None].to(zeta)
        gradient = gradient * STRETCH / 2 * (1 - torch.tanh(zeta).square())
        first = state["first"].lerp(gradient, 0.1)
        second = state["second"].lerp(gradient.square(), 0.001)
        mean = first / (1 - 0.9**step)
        spread = (second / (1 - 0.999**step)).sqrt()
        zeta = (zeta - self.learning_rate * mean / (spread + 1e-8)).clamp(-LIMIT, LIMIT)
        return {**state, "zeta": zeta, "first": first, "second": second}

    def _searched(self, state: State) -> State:
        """Let those who took all steps, or do not improve any more, try another c."""
        patience = max(self.steps // PATIENCE_SHARE, PATIENCE_STEPS)
        asked = state["step"] % patience == 0
        worth = torch.stack([state["lowest"], state["nearest"]], dim=1)
        improved = (worth < state["milestones"] * 0.9999).any(dim=1)
        stuck = asked & ~improved & self.refining(state)
        state = {**state, "milestones": _where(asked, worth, state["milestones"])}
        over = stuck | (state["step"] >= self.steps)
        if not bool(over.any()):
            return state
        fooled = state["nearest"].isfinite()
        high = torch.where(fooled, state["c"], state["high"])
        low = torch.where(fooled, state["low"], state["c"])
        c = torch.where(high.isfinite(), (low + high) / 2, state["c"] * 10)
        again = {"high": high, "low": low, "c": c, "round": state["round"] + 1}
        again |= {"step": torch.zeros_like(state["step"]), **_fresh(state["images"])}
        chosen = {name: _where(over, values, state[name]) for name, values in again.items()}
        return {**state, **chosen}


def _fresh(images: Tensor) -> State:
    """What is known of images before the first step with a c."""
    nowhere = images.new_full((len(images),), torch.inf)
    return {
        "zeta": torch.atanh((2 * images - 1) / STRETCH),
        "first": torch.zeros_like(images),
        "second": torch.zeros_like(images),
        "nearest": nowhere,
        "lowest": nowhere,
        "milestones": nowhere[:, None].expand(-1, 2),
    }


def _where(rows: Tensor, values: Tensor, others: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (values.ndim - 1)), values, others)
