"""MD and A3: first steps that lead elsewhere than the margin does, then steps on the margin."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from robustbench_pcl.attacks.balls import uniform_noise
from robustbench_pcl.attacks.base import Chunk, Stage
from robustbench_pcl.attacks.gradient_descent import Descent, DescentState, half_cosine
from robustbench_pcl.attacks.losses import logit_margin
from robustbench_pcl.attacks.passes import Pass
from robustbench_pcl.attacks.ranking import Ranking
from robustbench_pcl.attacks.rows import Rows
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import Count
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Mixture(Rows):
    """What is to grow: some logits, and the margin.

    Attributes:
        classes: int64 (N, M), of the logits; the goal's label first.
        weights: float (N, M), theirs.
        share: float (N,), the margin's weight.
    """

    classes: Tensor
    weights: Tensor
    share: Tensor


def mixed(model: nn.Module, images: Tensor, aims: Mixture) -> tuple[Tensor, Tensor]:
    """Each image's weighted logits and margin, (N,), and the logits (N, K)."""
    logits = model(images)
    chosen = (aims.weights * logits.gather(1, aims.classes)).sum(dim=1)
    return chosen + aims.share * logit_margin(logits, aims.classes[:, 0]), logits


class TwoPhases(Descent):
    """Steps that follow a mixture of logits, then steps that follow the margin."""

    random_start: ClassVar[bool] = True

    @property
    @abstractmethod
    def first_steps(self) -> int:
        """Steps of the first phase."""

    def differentiate(self, target: TargetModel, state: DescentState) -> Pass:
        """The gradient of the mixture, or of the margin."""
        aims = state.aims
        assert isinstance(aims, Mixture)
        second = state.step >= self.first_steps
        now = replace(
            aims,
            weights=aims.weights.masked_fill(second[:, None], 0),
            share=aims.share.masked_fill(second, 1),
        )
        return target.differentiate(mixed, state.adversarial, now, exact=state.exact)


class MD(TwoPhases):
    """Margin decomposition: each term of the margin by itself first (Ma et al. 2023, Section 4).

    Where a defence has made the gradients of the two terms cancel, or one hide the other, one of
    them alone leads out of there. Each half has a step size that falls from 2 eps along a cosine.
    """

    name: Literal["md"] = "md"
    steps: Count = Field(50, description="gradient steps of each start, half of them on one term")
    first: Literal["own", "other"] = Field(
        "own", description="the term: own (label's logit) or other (largest other)"
    )
    restarts: Count = Field(2, description="starts, with one term and the other in turn")

    @property
    def first_steps(self) -> int:
        """Half of all."""
        return self.steps // 2

    def stages(self, classes: int) -> tuple[Stage, ...]:  # noqa: ARG002 - the same for all
        """One for each start."""
        terms = ("own", "other") if self.first == "own" else ("other", "own")
        each = [self.changed(restarts=1, first=terms[start % 2]) for start in range(self.restarts)]
        return tuple(Stage(once, once.label, start) for start, once in enumerate(each))

    def aims(self, target: TargetModel, chunk: Chunk) -> Mixture:  # noqa: ARG002
        """Minus the label's logit; or plus it, which leaves the other of the margin's terms."""
        labels = chunk.goal.labels[:, None]
        weight, share = (-1, 0) if self.first == "own" else (1, 1)
        weights = torch.full_like(labels, weight, dtype=chunk.images.dtype)
        return Mixture(labels, weights, torch.full_like(weights[:, 0], share))

    def step_sizes(self, step: Tensor) -> Tensor:
        """From 2 eps along half a cosine, twice."""
        first, second = self.first_steps, self.steps - self.first_steps
        later = half_cosine(step - first, second)
        return 2 * torch.where(step < first, half_cosine(step, max(first, 1)), later)


class A3(TwoPhases):
    """Adaptive Auto Attack (Ye Liu et al., CVPR 2022)."""

    name: Literal["a3"] = "a3"
    steps: Count = Field(15, description="gradient steps of a start, the first phase included")
    first_phase: Count = Field(7, description="steps of size eps along a mixture of logits")
    restart: Annotated[int, Field(ge=0)] = Field(0, description="number of a start")
    restarts: Count = Field(10, description="starts")

    @property
    def first_steps(self) -> int:
        return self.first_phase

    def aims(self, target: TargetModel, chunk: Chunk) -> Mixture:
        wrong = Ranking("logits", self.norm, 9).classes(target, chunk)
        classes = torch.cat([chunk.goal.labels[:, None], wrong], dim=1)
        w = uniform_noise(classes[:, :, None, None].to(chunk.images), chunk.seeds + 1)[:, :, 0, 0]
        w = self.rule(w, classes)
        return Mixture(classes, w, torch.zeros_like(w[:, 0]))

    def rule(self, w, classes):
        if self.restart >= 2:
            w = w.clone()
            w[:, 0] = -0.2 + 0.3 * w[:, 0]
            w[:, 1 + (self.restart - 2) % (w.shape[1] - 1)] = 0.8
        return w

    def step_sizes(self, step):
        n = self.steps - self.first_phase
        low = 0.1 if n <= 10 else 0.001
        later = low + (1 - low) * half_cosine(step - self.first_phase, n)
        return torch.where(step < self.first_phase, torch.ones_like(later), later)

    SCHEDULE: ClassVar = (
        (1, 8),
        (1, 8),
        (1, 8),
        (0.7, 12),
        (0.6, 16),
        (0.5, 20),
        (0.4, 25),
        (0.3, 30),
        (0.2, 40),
        (0.1, 60),
    )

    def stages(self, classes):
        return tuple(
            Stage(
                c := self.changed(restarts=1, restart=r, steps=self.first_phase + n),
                c.label,
                r,
                share,
            )
            for r, (share, n) in enumerate(self.SCHEDULE)
        )
