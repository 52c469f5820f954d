"""APGD: steps with momentum that are halved when they do not pay (Croce and Hein, ICML 2020)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from robustbench_pcl.attacks.balls import Ball, ball
from robustbench_pcl.attacks.base import Chunk, Goal, Stage, starts
from robustbench_pcl.attacks.fast_model import Precision
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.attacks.passes import Pass, decided
from robustbench_pcl.attacks.ranking import Order, Ranking
from robustbench_pcl.attacks.rows import column
from robustbench_pcl.attacks.runner import IterativeAttack, State
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import Count, Radius
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

PERIODS = (0.22, 0.03, 0.06)
"""Of the steps: how long the first period between checkpoints is, by how much each is shorter than
the one before, and how long it is at least (Section 3.2)."""
ROUNDING = 16
"""Of the smallest relative differences: what a value's rounding may come to."""
FIRST_STEP = 2.0
"""The first step size, as a share of eps."""


@dataclass(frozen=True, eq=False)
class MomentumState(State):
    """What APGD knows, one row per image.

    Attributes:
        ball: in which they stay.
        aims: what the loss takes beside the images.
        previous: float (N, C, H, W), where the step before started from.
        size: (N,), step size, as a share of eps.
        value: (N,), what is to grow, in the pass before; -infinity before the first.
        best: float (N, C, H, W), the point where it was largest.
        slope: float (N, C, H, W), its gradient there.
        largest: (N,), its value there.
        fooled: boolean (N,), whether it is what the attacker wants.
        milestone: (N,), ``largest`` at the last checkpoint.
        rises: int64 (N,), steps since then that made the value larger.
        halved: boolean (N,), whether the step size was halved at the last checkpoint.
    """

    ball: Ball
    aims: Tensor
    previous: Tensor
    size: Tensor
    value: Tensor
    best: Tensor
    slope: Tensor
    largest: Tensor
    fooled: Tensor
    milestone: Tensor
    rises: Tensor
    halved: Tensor


class APGD(IterativeAttack[MomentumState]):
    r"""Auto-PGD: no step size to choose (Croce and Hein 2020, Algorithm 1).

    .. math::

        u_{m+1} = \Pi \left( x_m + \eta_m \operatorname{sign} \nabla_x \mathcal{L}(x_m, y) \right),
        \qquad x_{m+1} = \Pi \left( x_m + \alpha (u_{m+1} - x_m)
        + (1 - \alpha) (x_m - x_{m-1}) \right)

    Steps start with :math:`\eta_0 = 2 \epsilon` and have momentum. At each checkpoint an image
    whose loss has risen too seldom, or not above its largest, continues from its best point with
    half the step size. The best point is the result.
    """

    early_stop: ClassVar[bool] = True
    coarsest: ClassVar[Precision] = "float32"

    name: Literal["apgd"] = "apgd"
    eps: Radius = Field(8 / 255, description="largest perturbation, in pixels of [0, 1]")
    steps: Count = Field(100, description="gradient steps")
    loss: AttackLoss = Field(
        AttackLoss.cross_entropy, description=f"what is maximised: {', '.join(AttackLoss)}"
    )
    momentum: Annotated[float, Field(gt=0, le=1)] = Field(
        0.75, description="share alpha of a step that is new, the rest is the last step's"
    )
    rho: Annotated[float, Field(gt=0, le=1)] = Field(
        0.75, description="share of the steps that must raise the loss for the size to stay"
    )
    restarts: Count = Field(
        1, description="starts, each for the images that withstood those before"
    )

    def stages(self, classes: int) -> tuple[Stage, ...]:  # noqa: ARG002 - the same for all
        """One for each start."""
        return starts(self.changed(restarts=1), self.restarts)

    def initialise(self, target: TargetModel, chunk: Chunk) -> MomentumState:
        """At a random point of the ball."""
        return self.started(chunk, self.loss.aims(target, chunk), chunk.seeds)

    def started(self, chunk: Chunk, aims: Tensor, seeds: Tensor) -> MomentumState:
        """At a random point of the ball, from int64 seeds (N,)."""
        inside, none = ball(chunk, self.norm, self.eps), torch.zeros_like(chunk.rows)
        first = inside.random(seeds)
        lowest = torch.full_like(none, -torch.inf, dtype=first.dtype)
        return MomentumState(
            chunk=chunk,
            step=none,
            adversarial=first,
            ball=inside,
            aims=aims,
            previous=first,
            size=torch.full_like(lowest, FIRST_STEP),
            value=lowest,
            best=first,
            slope=torch.zeros_like(first),
            largest=lowest,
            fooled=none.bool(),
            milestone=lowest,
            rises=none,
            halved=none.bool(),
        )

    def step(self, target: TargetModel, state: MomentumState) -> tuple[MomentumState, Pass]:
        """Remember the best point, halve the step size where it is due, and step."""
        found = target.differentiate(self.loss, state.adversarial, state.aims, exact=state.exact)
        value, slope = self.rising(state.chunk.goal, found)
        state = self._remembered(state, found, value, slope)
        state, back = self._checked(state)
        here = torch.where(column(back), state.best, state.adversarial)
        slope = torch.where(column(back), state.slope, slope)
        inside, taken = state.ball, state.step + 1
        plain = inside.project(here + column(state.size) * inside.eps * inside.steepest(slope))
        new = column(torch.where(state.step == 0, 1.0, self.momentum)).to(here)
        moved = inside.project(here + new * (plain - here) + (1 - new) * (here - state.previous))
        adversarial = torch.where(column(taken >= self.steps), state.best, moved)
        return replace(state, step=taken, adversarial=adversarial, previous=here), found

    def rising(self, goal: Goal, found: Pass) -> tuple[Tensor, Tensor]:
        """What is to grow, (N,), and its gradient (N, C, H, W): of the loss, or of minus it.

        What MIFPE gives at two points does not say which is better: there it is the margin.
        """
        sign = -1 if goal.targeted else 1
        mifpe = self.loss is AttackLoss.mifpe
        value = goal.margin(found.logits) if mifpe else sign * found.values
        return value, sign * found.gradient

    def _remembered(
        self, state: MomentumState, found: Pass, value: Tensor, slope: Tensor
    ) -> MomentumState:
        """With the point that was passed as the best one, where it is.

        One that is what the attacker wants is better than any that is not.
        """
        fooled = state.chunk.goal.reached(decided(found.logits))
        better = torch.where(fooled == state.fooled, above(value, state.largest), fooled)
        return replace(
            state,
            value=value,
            rises=state.rises + (above(value, state.value) & (state.step > 0)),
            best=torch.where(column(better), state.adversarial, state.best),
            slope=torch.where(column(better), slope, state.slope),
            largest=torch.where(better, value, state.largest),
            fooled=fooled | state.fooled,
        )

    def _checked(self, state: MomentumState) -> tuple[MomentumState, Tensor]:
        """At a checkpoint, conditions 1 and 2 of Section 3.2; boolean (N,): who goes back."""
        period = torch.tensor(periods(self.steps), device=state.step.device)[state.step]
        seldom = state.rises < self.rho * period
        stuck = ~state.halved & (state.largest <= state.milestone)
        due = period > 0
        back = due & (seldom | stuck)
        after = replace(
            state,
            size=torch.where(back, state.size / 2, state.size),
            milestone=torch.where(due, state.largest, state.milestone),
            rises=state.rises.masked_fill(due, 0),
            halved=torch.where(due, back, state.halved),
        )
        return after, back


class APGDT(APGD):
    r"""APGD towards the most promising wrong classes, one after the other.

    Steps as APGD's, on the targeted difference of logits ratio towards a class t:

    .. math::

        \mathcal{L}(x, y) = \frac{z_t(x) - z_y(x)}
        {z_{(1)}(x) - \frac{1}{2} (z_{(3)}(x) + z_{(4)}(x))}

    :math:`z_{(k)}` is the k-th largest logit.

    Croce and Hein 2020, Section 4. A class's start is its own, whichever rank it has, so that the
    order decides only when an image is fooled.
    """

    title: ClassVar[str] = "APGD-T"

    name: Literal["apgd-t"] = "apgd-t"  # type: ignore[assignment]
    loss: Literal[AttackLoss.targeted_dlr, AttackLoss.margin] = Field(
        AttackLoss.targeted_dlr, description="what is maximised: targeted-dlr or margin"
    )
    targets: Count = Field(9, description="wrong classes that are attacked, all there are at most")
    order: Order = Field("logits", description="of the classes: logits (AutoAttack's) or malt")
    rank: Annotated[int, Field(ge=0)] = Field(
        0, description="of the one class that is attacked; 0 for each in turn"
    )

    def stages(self, classes: int) -> tuple[Stage, ...]:
        """One for each class and start."""
        ranks = [self.rank] if self.rank else range(1, min(self.targets, classes - 1) + 1)
        each = [starts(self.changed(restarts=1, rank=rank), self.restarts) for rank in ranks]
        return tuple(stage for start in zip(*each, strict=True) for stage in start)

    def initialise(self, target: TargetModel, chunk: Chunk) -> MomentumState:
        """At a random point of the ball that depends on the class."""
        ranking = Ranking(self.order, self.norm, max(self.targets, self.rank))
        pairs = ranking.pairs(target, chunk, self.rank)
        return self.started(chunk, pairs, chunk.seeds + pairs[:, 1])

    def rising(self, goal: Goal, found: Pass) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """The loss and its gradient: it grows towards the class."""
        return found.values, found.gradient


def periods(steps: int) -> list[int]:
    """For each step: how many there were since the last checkpoint, 0 where there is none."""
    length, shorter, least = (max(int(share * steps), 1) for share in PERIODS)
    at, found = length, [0] * steps
    while at < steps:
        found[at] = length
        length = max(length - shorter, least)
        at += length
    return found


def above(values: Tensor, others: Tensor) -> Tensor:
    """Boolean (N,): where ``values`` (N,) are larger than ``others``, by more than rounding.

    Points come back, and in a batch of another size their values differ in the last bits.
    """
    return values - others > ROUNDING * torch.finfo(values.dtype).eps * values.abs()
