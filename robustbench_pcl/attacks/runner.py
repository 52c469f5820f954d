"""Attacks that go step by step, many images at a time: who leaves makes room for the next."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from robustbench_pcl.attacks.base import Attack, Chunk, Finished, Goal
from robustbench_pcl.attacks.fast_model import Precision
from robustbench_pcl.attacks.passes import Pass, decided
from robustbench_pcl.attacks.rows import Queue, Rows, part
from robustbench_pcl.attacks.stages import run_all
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import Count
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

WARM = 5
"""Passes of which the quickest says how long one takes: the first ones pay for warming up, others
for what else the machine does."""

PATIENCE = 16
"""Steps of a batch after which verdicts are given though there is not a batch of them: what is not
judged is not stored, and lost to a kill. It costs one pass forward in 48 at most."""


@dataclass(frozen=True, eq=False)
class State(Rows):
    """What an attack knows of some images, one row per image. Members add columns.

    Attributes:
        chunk: what was asked: the clean images, the goal, the seeds.
        step: int64 (N,), how many steps they have taken; an attack that ends earlier than with its
            last step sets it to that.
        adversarial: float (N, C, H, W) in [0, 1], what the next step passes through the model; of
            images that have taken all steps, the result.
        exact: this step is to be made with the reference model.
    """

    chunk: Chunk
    step: Tensor
    adversarial: Tensor
    exact: bool = field(default=False, kw_only=True)


S = TypeVar("S", bound=State)


class IterativeAttack(Attack, Generic[S]):
    """An attack step by step, each image on its own.

    A member says how it starts and what a step is; batches, early stop, verdicts and memory are
    the runner's.

    Attributes:
        reference_share: of its steps, after which an image goes on on the reference model, because
            its steps have become finer than the fast model's precision.
        coarsest: precision that the fast model's gradients may have: in bfloat16 they do not tell
            apart what is left near the boundary, which first attacks can bear and last ones cannot.
    """

    reference_share: ClassVar[float] = 1.0
    coarsest: ClassVar[Precision] = "bfloat16"

    steps: Count

    @abstractmethod
    def initialise(self, target: TargetModel, chunk: Chunk) -> S:
        """What is known of images before the first step."""

    @abstractmethod
    def step(self, target: TargetModel, state: S) -> tuple[S, Pass]:
        """Pass ``state.adversarial`` through the model, once, and step.

        Returns:
            what is known after the step, and what the pass gave.
        """

    def likely_fooled(self, state: S, after: S, found: Pass) -> Tensor:  # noqa: ARG002
        """Boolean (N,): which steps so likely fool that the reference model is asked at once.

        It saves a pass of the fast model, or costs one of the reference; an image that the fast
        model would have missed is found.
        """
        return torch.zeros_like(found.blind)

    def admissible(self, state: S) -> Tensor:
        """Boolean (N,): whose ``state.adversarial`` may be a result, should it fool.

        A search for the nearest adversarial image may pass points that are beyond its budget.
        """
        return torch.ones_like(state.step, dtype=torch.bool)

    def perturb(self, target: TargetModel, images: Tensor, goal: Goal, seeds: Tensor) -> Tensor:
        """Take all images to their end."""
        if len(self.stages(target.classes)) > 1:
            return run_all(self, target, images, goal, seeds).images
        rows = torch.arange(len(images), device=images.device)
        adversarial = torch.empty_like(images)
        chunks = iter([Chunk(rows, images, goal, seeds)])
        for finished in self.stream(target, chunks, len(images)):
            adversarial[finished.chunk.rows] = finished.images
        return adversarial

    def stream(
        self, target: TargetModel, chunks: Iterator[Chunk], total: int
    ) -> Iterator[Finished]:
        """Take every image to its end, in any order, a full batch at a time."""
        return Runner(self, target, chunks, total).run()


@dataclass(frozen=True, eq=False)
class Suspect(Rows, Generic[S]):
    """Images that were found fooling, and wait for the reference model's verdict.

    Attributes:
        state: with which they go on if it is not fooled.
        images: float (N, C, H, W) in [0, 1], to be judged.
    """

    state: S
    images: Tensor


class Runner(Generic[S]):
    """Takes every image to its end, in any order, a full batch at a time.

    With early stop, an image that a step's pass finds fooling waits for the reference model's
    verdict on that very image; if that one is not fooled, the image goes on where it was. Images
    on which the fast model does not answer as the reference model does are attacked again, from
    their start, by that one alone. On out-of-memory, batches are halved.

    Args:
        attack: the attack.
        target: the model, entered.
        chunks: the images, some hundreds at a time, so that memory is flat in their number.
        total: how many there are.
    """

    def __init__(
        self, attack: IterativeAttack[S], target: TargetModel, chunks: Iterator[Chunk], total: int
    ) -> None:
        self.attack, self.target, self.left = attack, target, total
        target.coarsest = attack.coarsest
        self.early_stop = attack.early_stop and target.shortcuts.early_stop
        self.ready = Queue(attack.initialise(target, chunk) for chunk in chunks if len(chunk))
        self.late: Queue[S] = Queue()  # go on on the reference model
        self.suspects: Queue[Suspect[S]] = Queue()  # wait for its verdict
        self.ended: Queue[S] = Queue()  # have taken all steps
        self.unjudged = 0  # steps since the last verdicts
        self.again: list[Chunk] = []  # it and the fast model do not answer alike
        self.paces = deque([0.0] * WARM, maxlen=WARM)  # seconds per image

    def run(self) -> Iterator[Finished]:
        """The images, as they come to their end."""
        while True:
            size = self.target.batch_size
            self.ready.fill(size)
            idle = not self.ready and not self.late
            due = idle or self.unjudged >= PATIENCE
            if self.suspects and (due or len(self.suspects) >= size):
                done = self.judge(self.suspects.take(size))
            elif self.ended and (due or len(self.ended) >= size):
                done = self.end(self.ended.take(size))
            elif idle:
                break
            else:
                self.step(self.late if not self.ready or len(self.late) >= size else self.ready)
                self.unjudged += 1
                continue
            self.unjudged = 0
            self.left -= len(done)
            if len(done):
                yield done
        if self.again:
            with self.target.reference_only():
                yield from Runner(self.attack, self.target, iter(self.again), self.left).run()

    def step(self, source: Queue[S]) -> None:
        """Let a batch step; who is fooled, or has ended, goes no further."""
        attack, target = self.attack, self.target
        state = replace(source.take(target.batch_size), exact=source is self.late)
        began = time.perf_counter()
        target.seconds_left = attack.steps * self.left * min(self.paces)
        try:
            after, found = attack.step(target, state)
        except torch.OutOfMemoryError:
            target.halve_batches()
            source.put(state)
            return
        if found.exact:
            target.blind.update(state.chunk.rows[found.blind].tolist())
        elif bool(found.blind.any()):  # perhaps the fast model's fault
            self.again.append(state.chunk[found.blind])
            seeing = ~found.blind
            state, after, found = state[seeing], after[seeing], found[seeing]
        if self.early_stop:
            fooled = state.chunk.goal.reached(decided(found.logits)) & attack.admissible(state)
            going_on = after.step < attack.steps
            asked = fooled | (going_on & attack.likely_fooled(state, after, found))
            images = torch.where(fooled[:, None, None, None], state.adversarial, after.adversarial)
            suspects, others = part(Suspect(after, images), asked)
            self.suspects.put(suspects)
            if others is not None:
                self.go_on(others.state)
        else:
            self.go_on(after)
        self.paces.append((time.perf_counter() - began) / max(len(state), 1))

    def go_on(self, states: S) -> None:
        """Let images wait for their next step, or for their end."""
        ended, others = part(states, states.step >= self.attack.steps)
        self.ended.put(ended)
        if others is not None:
            share = self.attack.reference_share
            fine, coarse = part(others, others.step >= share * self.attack.steps)
            self.late.put(fine)
            self.ready.put(coarse)

    def judge(self, suspects: Suspect[S]) -> Finished:
        """Those that fool the reference model are done; the others go on."""
        done = Finished(suspects.state.chunk, suspects.images)
        done = done.judged(self.target.logits(done.images))
        fooled = done.fooled
        _, others = part(suspects.state, fooled)
        if others is not None:
            self.go_on(others)
        return done[fooled]

    def end(self, states: S) -> Finished:
        """Those on which both models answer alike, or that fool the reference model, are done."""
        target, done = self.target, Finished(states.chunk, states.adversarial)
        if not self.early_stop and (target.exact or not target.shortcuts.compared):
            return done
        logits = target.logits(done.images)
        done = done.judged(logits)
        doubted = ~done.fooled
        apart = doubted.clone()
        if bool(doubted.any()):
            apart[doubted] = ~target.agrees(done.images[doubted], logits[doubted])
        if not bool(apart.any()):
            return done
        self.again.append(states.chunk[apart])
        return done[~apart]
