"""MD and A3: first steps that lead elsewhere than the margin does, then steps on the margin."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from robustbench_pcl.attacks.balls import uniform_noise
from robustbench_pcl.attacks.base import Chunk, Stage
from robustbench_pcl.attacks.fast_model import Precision
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


DIVERSIFIED = 7
"""Steps of A3's first phase."""
BIAS = 0.8
"""A3's weight of the class that a start leads to, and minus that of the label."""
MOST = 9
"""Wrong classes with a weight in A3's first phase, the likeliest."""
SCHEDULE = (
    *((1, 1), (1, 1), (1, 1), (0.7, 1.5), (0.6, 2), (0.5, 2.5)),
    *((0.4, 3), (0.3, 4), (0.2, 5), (0.1, 7.5)),
)
"""Of A3's starts: the share of the images that are left which it takes, and how many times as many
steps of the margin as in the first; further ones are as the last."""


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
    coarsest: ClassVar[Precision] = "float32"

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
    r"""Margin decomposition: one term of the margin by itself first (Ma et al. 2023, Section 4).

    Each start maximises one term of the margin in its first half, then the margin:

    .. math::

        \mathcal{L}_1 = -z_y \; \text{or} \; \max_{k \neq y} z_k, \qquad
        \mathcal{L}_2 = \max_{k \neq y} z_k - z_y

    The terms take turns from start to start.

    Where a defence has made the gradients of the two terms cancel, or one hide the other, either
    of them alone leads out of there. In each half, steps fall from 2 eps to 0 along a cosine.
    """

    name: Literal["md"] = "md"
    steps: Count = Field(50, description="gradient steps of a start, half of them on one term")
    term: Literal["own", "other"] = Field(
        "own", description="of the first start: own (the label's logit) or other (the largest)"
    )
    restarts: Count = Field(2, description="starts, with either term in turn")

    def stages(self, classes: int) -> tuple[Stage, ...]:  # noqa: ARG002 - the same for all
        """One for each start."""
        if self.restarts == 1:
            return (Stage(self, self.label),)
        terms = ("own", "other") if self.term == "own" else ("other", "own")
        each = [self.changed(restarts=1, term=terms[start % 2]) for start in range(self.restarts)]
        return tuple(
            Stage(once, f"{self.label}, start {start + 1}, {once.term} logit first", start)
            for start, once in enumerate(each)
        )

    @property
    def first_steps(self) -> int:
        """Half of all."""
        return self.steps // 2

    def aims(self, target: TargetModel, chunk: Chunk) -> Mixture:  # noqa: ARG002 - as for all
        """Minus the label's logit; or the margin plus it, which is the largest other."""
        labels = chunk.goal.labels[:, None]
        weight, share = (-1, 0) if self.term == "own" else (1, 1)
        weights = torch.full_like(labels, weight, dtype=chunk.images.dtype)
        return Mixture(labels, weights, torch.full_like(weights[:, 0], share))

    def step_sizes(self, step: Tensor) -> Tensor:
        """From 2 eps along half a cosine, twice."""
        first = self.first_steps
        second = half_cosine(step - first, self.steps - first)
        return 2 * torch.where(step < first, half_cosine(step, max(first, 1)), second)


class A3(TwoPhases):
    r"""Adaptive Auto Attack: a start that looks for another way each time (Ye Liu et al. 2022).

    .. math::

        \mathcal{L}_1 = \sum_k w_k z_k, \quad w_k \sim \mathcal{U}(-1, 1), \qquad
        \mathcal{L}_2 = \max_{k \neq y} z_k - z_y

    The first steps, of size eps, follow logits with random weights (output diversified
    initialisation, Tashiro et al. 2020), the others the margin, with sizes that fall along a
    cosine. Later starts take more steps, and only the images that came nearest to being fooled.

    The authors draw the weights of the label and of one wrong class from what succeeded on other
    images. Here no image's result depends on others: the label has weight -0.8 and one wrong class
    0.8, the likeliest in the first start, the next one in the next. On an adversarially trained
    resnet20 that is as strong after two starts of 20 steps as free weights are after four, and
    after eight both leave the same.
    """

    name: Literal["a3"] = "a3"
    steps: Count = Field(15, description="gradient steps of the first start; later ones take more")
    start: Annotated[int, Field(ge=0)] = Field(0, description="number of the first start, from 0")
    restarts: Count = Field(10, description="starts, each towards another class first")

    def stages(self, classes: int) -> tuple[Stage, ...]:  # noqa: ARG002 - the same for all
        """One for each start."""
        if self.restarts == 1:
            return (Stage(self, self.label),)
        margin_steps, found = self.steps - self.first_steps, []
        for start in range(self.start, self.start + self.restarts):
            share, factor = SCHEDULE[min(start, len(SCHEDULE) - 1)]
            steps = self.first_steps + round(factor * margin_steps)
            once = self.changed(restarts=1, start=start, steps=steps)
            found.append(Stage(once, f"{self.label}, start {start + 1}", start, share))
        return tuple(found)

    @property
    def first_steps(self) -> int:
        """Seven, as in the paper; of few steps, half."""
        return min(DIVERSIFIED, self.steps // 2)

    def aims(self, target: TargetModel, chunk: Chunk) -> Mixture:
        """Random weights in [-1, 1] for all but the label and the class of this start."""
        wrong = Ranking("logits", self.norm, MOST).classes(target, chunk)
        classes = torch.cat([chunk.goal.labels[:, None], wrong], dim=1)
        weights = uniform_noise(classes.to(chunk.images), ~chunk.seeds)
        weights[:, 0] = -BIAS
        weights[:, 1 + self.start % wrong.shape[1]] = BIAS
        return Mixture(classes, weights, torch.zeros_like(weights[:, 0]))

    def step_sizes(self, step: Tensor) -> Tensor:
        """Of eps, then along half a cosine to a tenth of it, or almost 0 in more than ten steps."""
        steps = self.steps - self.first_steps
        least = 0.1 if steps <= 10 else 0.001
        falling = least + (1 - least) * half_cosine(step - self.first_steps, steps)
        return torch.where(step < self.first_steps, 1.0, falling)
