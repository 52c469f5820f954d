"""Fast adaptive boundary attack (Croce and Hein 2020): the nearest adversarial image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from robustbench_pcl.attacks.balls import Ball, ball
from robustbench_pcl.attacks.base import Chunk, Norm, Stage
from robustbench_pcl.attacks.boundaries import step_onto
from robustbench_pcl.attacks.fast_model import Precision
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.attacks.passes import Pass, decided
from robustbench_pcl.attacks.ranking import Ranking
from robustbench_pcl.attacks.rows import column
from robustbench_pcl.attacks.runner import IterativeAttack, State
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import Count, Positive, Radius
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class BoundaryState(State):
    """What the search along a boundary knows, one row per image.

    Attributes:
        ball: the budget.
        aims: int64 (N, 2), the label and the class whose boundary with it is followed; of a goal
            that has a target class (N,), that one: its boundary with the likeliest other.
        best: float (N, C, H, W), the nearest adversarial image within the budget.
        shortest: float (N,), its distance; infinite before there is one.
    """

    ball: Ball
    aims: Tensor
    best: Tensor
    shortest: Tensor


class FAB(IterativeAttack[BoundaryState]):
    r"""Fast adaptive boundary attack with targets: along the boundary, towards the image.

    .. math::

        x_{m+1} = (1 - \alpha) (x_m + \eta \, \delta_m) + \alpha (x + \eta \, \delta), \qquad
        x_m \leftarrow (1 - \beta) x + \beta x_m \; \text{where adversarial}

    where :math:`\delta_m` and :math:`\delta` lead from the present point and from the clean image
    onto the linearised boundary (Eq. 9 and 10).

    A point that is adversarial is drawn back towards the image (Eq. 10); there, a step linearises
    the boundary between the label and one other class (FAB-T, as AutoAttack has it) and goes a
    little beyond it, to a point between the projections of the present point and of the clean image
    (Eq. 9). As published, a step takes two passes forward and one backward; unlike there, the
    first point that is looked at is the clean image, in place of the last step's.

    It minimises the distance, and an image counts as fooled within ``eps``; there may be nearer
    points than the first one inside, for which it goes on where every step is asked for. Where
    nothing was found within ``eps``, the result is its last point, projected into the ball: one
    near the boundary, which the model judges like any other.
    """

    title: ClassVar[str] = "FAB-T"
    early_stop: ClassVar[bool] = True
    coarsest: ClassVar[Precision] = "float32"

    name: Literal["fab"] = "fab"
    eps: Radius = Field(8 / 255, description="largest perturbation, in pixels of [0, 1]")
    steps: Count = Field(100, description="points on the way, for each target")
    targets: Count = Field(9, description="wrong classes that are attacked, all there are at most")
    rank: Annotated[int, Field(ge=0)] = Field(
        0, description="of the one class that is attacked; 0 for each in turn"
    )
    alpha_max: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="largest weight of the clean image's projection"
    )
    eta: Positive = Field(1.05, description="how far beyond the boundary, as a share of the way")
    beta: Annotated[float, Field(ge=0, le=1)] = Field(
        0.9, description="share of the way at which an adversarial point is drawn back"
    )

    def stages(self, classes: int) -> tuple[Stage, ...]:
        """One for each target, the likeliest first."""
        if self.rank:
            return (Stage(self, self.label),)
        ranks = range(1, min(self.targets, classes - 1) + 1)
        each = [self.changed(rank=rank) for rank in ranks]
        return tuple(Stage(once, once.label) for once in each)

    def initialise(self, target: TargetModel, chunk: Chunk) -> BoundaryState:
        """At the image; the classes are ranked by the reference model."""
        ranking = Ranking("logits", self.norm, max(self.targets, self.rank))
        targeted = chunk.goal.targeted
        return BoundaryState(
            chunk=chunk,
            step=torch.zeros_like(chunk.rows),
            adversarial=chunk.images,
            ball=ball(chunk, self.norm, self.eps),
            aims=chunk.goal.labels if targeted else ranking.pairs(target, chunk, self.rank),
            best=chunk.images,
            shortest=torch.full_like(chunk.rows, torch.inf, dtype=chunk.images.dtype),
        )

    def step(self, target: TargetModel, state: BoundaryState) -> tuple[BoundaryState, Pass]:
        """Keep the point if it is the nearest, draw it back if it fools, and go on to the next."""
        here, goal, clean = state.adversarial, state.chunk.goal, state.chunk.images
        model = target.model if state.exact or target.fast is None else target.fast.model
        logits = target.logits(here, model)
        fooled = goal.reached(decided(logits))
        drawn_back = torch.where(column(fooled), clean + self.beta * (here - clean), here)
        found = target.differentiate(AttackLoss.margin, drawn_back, state.aims, exact=state.exact)
        better, distance = self._better(target, state, fooled, found.exact)
        best = torch.where(column(better), here, state.best)
        shortest = torch.where(better, distance, state.shortest)
        taken = state.step + 1
        over = (taken >= self.steps) | (shortest == 0)
        result = torch.where(column(shortest.isfinite()), best, state.ball.project(here))
        after = replace(
            state,
            step=taken.masked_fill(over, self.steps),
            adversarial=torch.where(column(over), result, self._beyond(drawn_back, clean, found)),
            best=best,
            shortest=shortest,
        )
        return after, replace(found, logits=logits)

    def admissible(self, state: BoundaryState) -> Tensor:
        """Those within the budget."""
        inside = state.ball.project(state.adversarial) == state.adversarial
        return inside.flatten(1).all(dim=1)

    def _better(
        self, target: TargetModel, state: BoundaryState, fooled: Tensor, exact: bool
    ) -> tuple[Tensor, Tensor]:
        """Boolean (N,): whose point fools the reference model, nearer than any; and distances."""
        distance = state.ball.distance(state.adversarial)
        better = fooled & (distance < state.shortest) & self.admissible(state)
        if not exact and bool(better.any()):
            logits = target.logits(state.adversarial[better])
            better[better.clone()] = state.chunk.goal[better].reached(decided(logits))
        return better, distance

    def _beyond(self, here: Tensor, clean: Tensor, found: Pass) -> Tensor:
        """Eq. 9: between the projections of both points, weighted by how near they are."""
        # Of a class to reach, the margin is to shrink to 0; the hyperplane is the same.
        normal, gap = found.gradient, -found.values
        gap_of_clean = gap + (normal * (here - clean)).sum(dim=(1, 2, 3))
        mine = step_onto(here, normal, gap, self.norm)
        its = step_onto(clean, normal, gap_of_clean, self.norm)
        far, further = (
            _length(step, self.norm).clamp_min(torch.finfo(step.dtype).tiny) for step in (mine, its)
        )
        alpha = (far / (far + further)).clamp_max(self.alpha_max)
        beyond = (1 - alpha) * (here + self.eta * mine) + alpha * (clean + self.eta * its)
        return beyond.clamp(0, 1)


def _length(step: Tensor, norm: Norm) -> Tensor:
    flat = step.flatten(1)
    return column(flat.norm(dim=1) if norm == "l2" else flat.abs().amax(dim=1))
