"""Attacks to come fit the runner: momentum with restarts, random search, targets, projections.

They are sketches, no more exact than it takes to use the interface as the real ones will.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from attack_models import case_of
from attack_toys import attacked, predictions
from torch import Tensor

from robustbench_pcl.attacks import PGD
from robustbench_pcl.attacks.balls import linf_ball, uniform_noise
from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.attacks.fast_model import EXACT, Shortcuts
from robustbench_pcl.attacks.losses import AttackLoss, logit_margin
from robustbench_pcl.attacks.runner import IterativeAttack, State

EPS, FAST = 0.04, Shortcuts(folded=True, early_stop=True)


def per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


@dataclass(frozen=True, eq=False)
class Momentum(State):
    """What the sketch of APGD knows: where it was, its best, its own step size."""

    low: Tensor
    high: Tensor
    previous: Tensor
    best: Tensor
    best_value: Tensor
    size: Tensor
    restart: Tensor


class AutoPGD(IterativeAttack[Momentum]):
    """Steps with momentum from the best point, halved when they do not pay; restarts."""

    name: str = "sketch-apgd"
    norm: str = "linf"
    early_stop = True
    steps: int = 12
    each: int = 6

    def initialise(self, target, chunk):
        eps = torch.full_like(chunk.rows, EPS, dtype=chunk.images.dtype)
        low, high = linf_ball(chunk.images, per_image(eps))
        start = self.start(chunk.images, chunk.seeds, low, high)
        worst = torch.full_like(eps, -torch.inf)
        none = torch.zeros_like(chunk.rows)
        return Momentum(chunk, none, start, low, high, start, start, worst, 2 * eps, none)

    def start(self, images, seeds, low, high):
        return (images + EPS * uniform_noise(images, seeds)).clamp(low, high)

    def step(self, target, state):
        here, labels = state.adversarial, state.chunk.goal.labels
        found = target.differentiate(AttackLoss.margin, here, labels, exact=state.exact)
        better = found.values > state.best_value
        best = torch.where(per_image(better), here, state.best)
        size = torch.where(better, state.size, state.size / 2)
        plain = (here + per_image(size) * found.gradient.sign()).clamp(state.low, state.high)
        moved = here + 0.75 * (plain - here) + 0.25 * (here - state.previous)
        taken = state.step + 1
        over = taken % self.each == 0
        again = self.start(state.chunk.images, state.chunk.seeds + taken, state.low, state.high)
        last = taken >= self.steps
        moved = torch.where(per_image(over), again, moved.clamp(state.low, state.high))
        return replace(
            state,
            step=taken,
            adversarial=torch.where(per_image(last), best, moved),
            previous=torch.where(per_image(over), again, here),
            best=best,
            best_value=torch.maximum(state.best_value, found.values),
            size=torch.where(over, 2 * EPS, size),
            restart=state.restart + over.long(),
        ), found


@dataclass(frozen=True, eq=False)
class Search(State):
    """What the sketch of Square knows: the best point, of which the next pass is a change."""

    low: Tensor
    high: Tensor
    best: Tensor
    margin: Tensor


class RandomSearch(IterativeAttack[Search]):
    """Stripes of +-eps, kept where the margin grows; no gradient is asked for."""

    name: str = "sketch-square"
    norm: str = "linf"
    early_stop = True
    needs_gradient = False
    steps: int = 40

    def initialise(self, target, chunk):
        eps = torch.full_like(chunk.rows, EPS, dtype=chunk.images.dtype)
        low, high = linf_ball(chunk.images, per_image(eps))
        worst = torch.full_like(eps, -torch.inf)
        none = torch.zeros_like(chunk.rows)
        return Search(chunk, none, chunk.images, low, high, chunk.images, worst)

    def step(self, target, state):
        found = target.query(state.adversarial, exact=state.exact)
        margin = logit_margin(found.logits, state.chunk.goal.labels)
        better = margin > state.margin
        best = torch.where(per_image(better), state.adversarial, state.best)
        noise = uniform_noise(best, state.chunk.seeds + state.step)
        stripe = noise[:, :, :1].sign() * (noise[:, :, :1].abs() > 0.5)
        taken = state.step + 1
        moved = (best + 2 * EPS * stripe).clamp(state.low, state.high)
        return replace(
            state,
            step=taken,
            adversarial=torch.where(per_image(taken >= self.steps), best, moved),
            best=best,
            margin=torch.maximum(margin, state.margin),
        ), found


@dataclass(frozen=True, eq=False)
class Boundary(State):
    """What the sketch of FAB knows: the nearest adversarial point so far."""

    nearest: Tensor
    distance: Tensor
    target: Tensor


class NearestTarget(IterativeAttack[Boundary]):
    """Projections onto each class's linearised boundary in turn: a target per image."""

    name: str = "sketch-fab"
    norm: str = "l2"
    steps: int = 12

    def initialise(self, target, chunk):
        far = torch.full_like(chunk.rows, torch.inf, dtype=chunk.images.dtype)
        none = torch.zeros_like(chunk.rows)
        other = (chunk.goal.labels + 1) % 5
        return Boundary(chunk, none, chunk.images, chunk.images, far, other)

    def step(self, target, state):
        labels, chosen = state.chunk.goal.labels, state.target

        def gap(model, images, pairs):
            logits = model(images)
            both = logits.gather(1, pairs)
            return both[:, 1] - both[:, 0], logits

        pairs = torch.stack([labels, chosen], dim=1)
        found = target.differentiate(gap, state.adversarial, pairs, exact=True)
        distance = (state.adversarial - state.chunk.images).flatten(1).norm(dim=1)
        fooled = state.chunk.goal.reached(found.logits.argmax(dim=1))
        closer = fooled & (distance < state.distance)
        nearest = torch.where(per_image(closer), state.adversarial, state.nearest)
        length = found.gradient.flatten(1).square().sum(dim=1).clamp_min(1e-12)
        move = per_image((0.02 - found.values).clamp_min(0) / length) * found.gradient
        taken = state.step + 1
        over = taken % 3 == 0
        onward = torch.where(per_image(over), state.chunk.images, state.adversarial + move)
        following = torch.where(over, (chosen + 1) % 5, chosen)
        return replace(
            state,
            step=taken,
            adversarial=torch.where(per_image(taken >= self.steps), nearest, onward.clamp(0, 1)),
            nearest=nearest,
            distance=torch.where(closer, distance, state.distance),
            target=torch.where(following == labels, (following + 1) % 5, following),
        ), found


SKETCHES: dict[str, Attack] = {
    "momentum": AutoPGD(),
    "search": RandomSearch(),
    "targets": NearestTarget(),
}


@pytest.mark.parametrize("shortcuts", [EXACT, FAST], ids=["exact", "fast"])
@pytest.mark.parametrize("name", SKETCHES)
def test_attacks_of_other_kinds_run_like_those_there_are(name, shortcuts, batches_of):
    case, attack = case_of("normed_net"), SKETCHES[name]
    whole = attacked(attack, case.model, case.images, case.predictions, shortcuts)
    assert (~whole.robust).sum() > 0
    for size in (3, 7):
        batches_of(size)
        found = attacked(attack, case.model, case.images, case.predictions, shortcuts, sizes=[9, 7])
        assert torch.equal(found.robust, whole.robust)
        assert torch.allclose(found.adversarial, whole.adversarial, rtol=0, atol=1e-9)


def test_a_search_without_gradients_makes_no_pass_backward():
    case = case_of("normed_net")
    found = attacked(RandomSearch(), case.model, case.images, case.predictions, FAST)
    assert found.backward_passes == 0
    assert found.forward_passes > 0


def test_several_stages_hand_their_survivors_on():
    """The next stage's images are those that the one before has finished and not fooled."""
    case = case_of("normed_net")
    labels = case.predictions
    first = attacked(PGD(eps=EPS, steps=1), case.model, case.images, labels, FAST)
    left = first.robust
    second = attacked(AutoPGD(), case.model, case.images[left], labels[left], FAST)
    assert 0 < left.sum() < 16
    assert second.robust.sum() < left.sum()
    assert torch.equal(predictions(case.model, second.adversarial) == labels[left], second.robust)
