"""DeepFool: from one linearised boundary to the next (Moosavi-Dezfooli et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from robustbench_pcl.attacks.balls import ball
from robustbench_pcl.attacks.base import Chunk, Norm
from robustbench_pcl.attacks.boundaries import reaches, step_onto
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.attacks.passes import Pass, decided
from robustbench_pcl.attacks.ranking import Ranking
from robustbench_pcl.attacks.rows import column
from robustbench_pcl.attacks.runner import IterativeAttack, State
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import Count
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class WayState(State):
    """What DeepFool knows, one row per image.

    Attributes:
        aims: int64 (N, A, 2), the label and each class whose boundary with it is looked at; of a
            goal that has a target class (N, 1), that one.
        change: float (N, C, H, W), the sum of all steps.
    """

    aims: Tensor
    change: Tensor


class DeepFool(IterativeAttack[WayState]):
    r"""DeepFool: step onto the nearest of the linearised boundaries until the class changes.

    In L2, with the class k for which the step is the shortest:

    .. math::

        \delta_m = \frac{|g_k|}{\| \nabla g_k \|_2^2} \nabla g_k, \quad
        g_k = z_k(x_m) - z_y(x_m), \qquad x_{m+1} = x + (1 + \eta) \sum_{i \le m} \delta_i

    Algorithm 2 for L2, and Section 3.3 for L-infinity. As in the authors' code, the boundaries are
    those of the likeliest classes of the clean image, and each point is the image plus all steps,
    lengthened by the overshoot. Unlike there, a step is the smallest one inside [0, 1]. All passes
    are the reference model's: the points are nearer to a boundary than bfloat16 can tell.
    """

    name: Literal["deepfool"] = "deepfool"
    norm: Norm = Field("l2", description="of the perturbation that it minimises: linf or l2")
    steps: Count = Field(50, description="steps, if the class does not change before")
    overshoot: Annotated[float, Field(ge=0)] = Field(
        0.02, description="eta: by which share the sum of all steps is lengthened"
    )
    targets: Count = Field(9, description="wrong classes that are looked at, all there are at most")

    def initialise(self, target: TargetModel, chunk: Chunk) -> WayState:
        """At the image."""
        labels = chunk.goal.labels[:, None]
        if chunk.goal.targeted:
            aims = labels
        else:
            classes = Ranking("logits", self.norm, self.targets).classes(target, chunk)
            aims = torch.stack([labels.expand_as(classes), classes], dim=2)
        none = torch.zeros_like(chunk.rows)
        return WayState(chunk, none, chunk.images, aims, torch.zeros_like(chunk.images))

    def step(self, target: TargetModel, state: WayState) -> tuple[WayState, Pass]:
        """The smallest of the steps onto a boundary, unless the class has changed."""
        here, goal = state.adversarial, state.chunk.goal
        passes = [
            target.differentiate(AttackLoss.margin, here, aims) for aims in state.aims.unbind(dim=1)
        ]
        steps = [step_onto(here, each.gradient, -each.values, self.norm) for each in passes]
        inside = ball(state.chunk, self.norm, 0)
        lengths = [inside.distance(inside.images + step) for step in steps]
        there = [
            reaches(step, each.gradient, -each.values)
            for step, each in zip(steps, passes, strict=True)
        ]
        far = torch.where(torch.stack(there), torch.stack(lengths), torch.inf)
        nearest = far.argmin(dim=0)
        change = state.change + torch.stack(steps)[nearest, range(len(here))]
        found = passes[0]
        done = goal.reached(decided(found.logits))
        further = (state.chunk.images + (1 + self.overshoot) * change).clamp(0, 1)
        after = replace(
            state,
            step=(state.step + 1).masked_fill(done, self.steps),
            adversarial=torch.where(column(done), here, further),
            change=change,
        )
        return after, found
