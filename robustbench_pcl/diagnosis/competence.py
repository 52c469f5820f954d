"""How often an attack finds adversarial images that exist by construction.

The binarisation test of Zimmermann et al. ("Increasing Confidence in Adversarial Robustness
Evaluations", NeurIPS 2022), written from its idea.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.base import Attack, Goal
from robustbench_pcl.attacks.checks import PROBE
from robustbench_pcl.attacks.fast_model import Shortcuts
from robustbench_pcl.attacks.passes import decided
from robustbench_pcl.attacks.stages import WITHSTOOD, run_all
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.diagnosis.evidence import Attached, Evidence, unsaid
from robustbench_pcl.store.diagnoses import Competence
from robustbench_pcl.store.rules import wilson

MOST_IMAGES = 60
"""Images that are tried: with them a share of 100 % is known to 6 points."""
INNER = 50
"""Random points of a ball that keep the image's class."""
NEARNESS = 0.99
"""Where the boundary lies on the way from the furthest of them to the one that is adversarial."""
RIDGE = 0.1
"""Added to the features' variances, as a share of their mean. With less, a direction among many
features fits the one point so closely that no attack gets there, on models that mask nothing."""
EARLY_STOP = Shortcuts(early_stop=True)


class Binarised(nn.Module):
    """A model with a fresh last layer of two classes, in place of its own and all behind it.

    Args:
        model: it.
        head: the layer that is replaced.
        weight: float (D,), of the features that the layer takes; the second class's logit.
        bias: added to it. The first class's logit is 0.
    """

    weight: Tensor

    def __init__(self, model: nn.Module, head: nn.Linear, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.model, self.head, self.bias = model, head, bias
        self.register_buffer("weight", weight)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 2)."""
        score = features(self.model, self.head, images) @ self.weight + self.bias
        return torch.stack([torch.zeros_like(score), score], dim=1)


def features(model: nn.Module, head: nn.Linear, images: Tensor) -> Tensor:
    """What a layer of a model takes, float (N, D), of images (N, C, H, W)."""
    with taken([head]) as passed:
        model(images)
    return passed[-1][1]


@contextmanager
def taken(layers: Sequence[nn.Linear]) -> Iterator[list[tuple[nn.Linear, Tensor, Tensor]]]:
    """What some layers take and give in the passes to come, in order."""
    passed: list[tuple[nn.Linear, Tensor, Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, given, gave: passed.append((layer, *given, gave)))
        for layer in layers
    ]
    try:
        yield passed
    finally:
        for hook in hooks:
            hook.remove()


def head_of(model: nn.Module, images: Tensor) -> nn.Linear | None:
    """The last fully connected layer whose outputs rank classes as the model's logits do.

    What comes behind it (a factor, a softmax) is replaced with it. None where there is none.

    Args:
        model: in eval mode.
        images: float (N, C, H, W), a few.
    """
    with taken([part for part in model.modules() if isinstance(part, nn.Linear)]) as passed:
        logits = model(images)
    for layer, given, gave in reversed(passed):
        if given.ndim == 2 and gave.shape == logits.shape:
            return layer if torch.equal(decided(gave), decided(logits)) else None
    return None


class Built(NamedTuple):
    """An image with a model of its own, under which a point of its ball is adversarial.

    Attributes:
        row: which image it is.
        model: of two classes; the image is of class 0, and that point of class 1.
    """

    row: int
    model: nn.Module


def build(evidence: Evidence, head: nn.Linear, row: int) -> Built | None:
    """Fit a fresh last layer for one image; None where its features do not let it.

    Its boundary lies just before one point at the very edge of the ball and beyond the image and
    random points: the direction is that in which the point stands out from them (Fisher's linear
    discriminant). It is scaled so that the image's logit margin is what the model's own is there:
    what saturates still does.
    """
    target, one = evidence.target, evidence.chunk[row : row + 1]
    rows = torch.full((INNER + 1,), row, device=one.images.device)
    inside = evidence.ball[rows]
    seeds = ~evidence.seeds[rows] - torch.arange(len(rows), device=rows.device)
    random = inside.random(seeds)  # from none that an attack starts from
    edge = inside.project(one.images + inside.eps * inside.steepest(random - one.images))
    points = torch.cat([one.images, random[:-1], edge[-1:]])
    found = features(target.model, head, points).double()
    inner, outer = found[:-1], found[-1]
    centred = inner - inner.mean(dim=0)
    covariance = centred.T @ centred / len(inner)
    covariance.diagonal().add_(RIDGE * covariance.diagonal().mean() + 1e-30)
    direction = torch.linalg.solve(covariance, outer - inner.mean(dim=0))
    score = found @ direction
    furthest = score[:-1].max()
    boundary = furthest + NEARNESS * (score[-1] - furthest)
    lead = -one.goal.margin(target.logits(one.images))[0].double()
    scale = lead / (boundary - score[0])
    weight = (scale * direction).to(one.images)
    model: nn.Module = Binarised(target.model, head, weight, float(-scale * boundary)).eval()
    if isinstance(target.model, Attached):
        model = Attached(model).eval()
    wanted = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    wanted[-1] = 1
    return Built(row, model) if torch.equal(decided(model(points)), wanted) else None


def finds(attack: Attack, evidence: Evidence, built: Built) -> bool:
    """Whether an attack finds an adversarial image where there is one."""
    one, forwards = evidence.chunk[built.row : built.row + 1], evidence.target.forwards
    with TargetModel(built.model, EARLY_STOP, say=unsaid, forwards=forwards) as target:
        target.classes = 2
        goal = Goal(torch.zeros_like(one.goal.labels))
        found = run_all(attack, target, one.images, goal, one.seeds)
    return bool(found.verdicts.felled_by[0] != WITHSTOOD)


def competence(evidence: Evidence, attacks: Sequence[Attack]) -> tuple[Competence, ...]:
    """Of each attack; nothing where the model's last layer cannot be told."""
    head = head_of(evidence.target.model, evidence.images[:PROBE])
    if head is None:
        return ()
    rows = range(min(len(evidence.images), MOST_IMAGES))
    built = [each for row in rows if (each := build(evidence, head, row))]
    tested = []
    for attack in attacks if built else ():
        found = sum(finds(attack, evidence, each) for each in built)
        tested.append(
            Competence(
                attack=attack.dump(),
                label=attack.label,
                found=found,
                n=len(built),
                interval=wilson(found, len(built)),
            )
        )
    return tuple(tested)
