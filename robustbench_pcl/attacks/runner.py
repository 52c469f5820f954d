"""Attacks that step along gradients, many images at a time: who leaves makes room for the next."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Generic, Self, TypeVar, cast

from robustbench_pcl.attacks.base import Attack, Chunk, Finished, Goal
from robustbench_pcl.attacks.target import PROBE, GradientPass, TargetModel
from robustbench_pcl.configuration import Count
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

WARM = 5
"""Passes of which the quickest says how long one takes: the first ones pay for warming up, others
for what else the machine does."""
LONG = 600.0
"""Seconds of work left from which on compiling is tried: it takes 10 to 120."""


@dataclass(frozen=True, eq=False)
class State:
    """What an attack knows of some images, one row per image.

    Attributes:
        rows: int64 (N,), which they are among all.
        images: float (N, C, H, W), clean.
        labels: int64 (N,), classes to move away from, or to reach.
        sign: int64 (N,), +1 to move away from the label, -1 to reach it.
        step: int64 (N,), how many steps they have taken; an attack that ends earlier than with its
            last step sets it to that.
        adversarial: float (N, C, H, W) in [0, 1], what the next pass is of; of images that have
            taken all steps, the result.
        passed: float (N, C, H, W), what fooled the fast model, of images that wait for the verdict
            on it; of all others (N, 0, H, W), which costs nothing to carry.
        predicted: int64 (N,), the class that the fast model gave it.
    """

    rows: Tensor
    images: Tensor
    labels: Tensor
    sign: Tensor
    step: Tensor
    adversarial: Tensor
    passed: Tensor
    predicted: Tensor

    def take(self, rows: Tensor | slice) -> Self:
        """The state of some of the images; ``rows`` is an index, a boolean mask or a slice."""
        return type(self)(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})


S = TypeVar("S", bound=State)


class IterativeAttack(Attack, Generic[S]):
    """An attack by steps along gradients, each image on its own.

    A member says how it starts, what it maximises and how it steps; batches, early stop and memory
    are the runner's, which is :meth:`stream`.

    Attributes:
        reference_share: of its steps, after which an image goes on on the reference model, because
            its steps have become finer than the fast model's precision.
    """

    reference_share: ClassVar[float] = 1.0

    steps: Count

    @abstractmethod
    def initialise(self, chunk: Chunk) -> S:
        """What is known of images before the first step."""

    @abstractmethod
    def objective(self, model: nn.Module, images: Tensor, state: S) -> tuple[Tensor, Tensor]:
        """What is to grow, one value per image (N,), and the logits (N, K) of the same pass."""

    @abstractmethod
    def step(self, target: TargetModel, state: S, found: GradientPass) -> S:
        """What is known after a step along the gradient of :meth:`objective`."""

    def reached(self, state: S, predicted: Tensor) -> Tensor:
        """Boolean (N,): whose ``predicted`` class, int64 (N,), is what the attacker wants."""
        return (predicted == state.labels) == (state.sign < 0)

    def perturb(self, target: TargetModel, images: Tensor, goal: Goal, seeds: Tensor) -> Tensor:
        """Take all images to their end."""
        rows = torch.arange(len(images), device=images.device)
        adversarial = images.clone()
        chunks = iter([Chunk(rows, images, goal, seeds)])
        for finished in self.stream(target, chunks, len(images)):
            adversarial[finished.rows] = finished.images
        return adversarial

    def stream(
        self, target: TargetModel, chunks: Iterator[Chunk], total: int
    ) -> Iterator[Finished]:
        """Take every image to its end, in any order, a full batch at a time.

        With early stop, an image that the fast model finds fooling waits for the reference model's
        verdict on that very image; if that one is not fooled, the image goes on where it was. On
        out-of-memory, batches are halved.

        Args:
            target: the model, entered.
            chunks: the images, some hundreds at a time, so that memory is flat in their number.
            total: how many there are.
        """
        starts = (self.initialise(chunk) for chunk in chunks if len(chunk.rows))
        early_stop = self.early_stop and target.shortcuts.early_stop
        ready: list[S] = []
        late: list[S] = []  # go on on the reference model
        fooling: list[S] = []  # wait for the reference model's verdict
        paces = deque([0.0] * WARM, maxlen=WARM)  # seconds per image
        while True:
            began, size = time.perf_counter(), target.batch_size
            source = late if sum(len(some.rows) for some in late) >= size else ready
            state = _next_batch(source, size, starts if source is ready else None)
            if state is None and source is ready:
                source, state = late, _next_batch(late, size)
            waiting = sum(len(some.rows) for some in fooling)
            if waiting and (waiting >= size or state is None):
                if state is not None:
                    source.append(state)
                state = cast(S, _next_batch(fooling, size))
                predicted = (
                    state.predicted if target.exact else target.logits(state.passed).argmax(dim=1)
                )
                reached = self.reached(state, predicted)
                yield Finished(state.rows[reached], state.passed[reached], predicted[reached])
                total -= int(reached.sum())
                state = replace(state.take(~reached), passed=state.passed[~reached, :0])
            elif state is None:
                return
            else:
                seconds = self.steps * total * min(paces)
                found = self._evaluate(target, state, seconds, reference=source is late)
                if found is None:
                    source.append(state)
                    continue
                passed, predicted = state.adversarial, found.logits.argmax(dim=1)
                state = self.step(target, state, found)
                if early_stop:
                    reached = self.reached(state, predicted)
                    if bool(reached.any()):
                        what = {"passed": passed[reached], "predicted": predicted[reached]}
                        fooling.append(replace(state.take(reached), **what))
                        state = state.take(~reached)
                paces.append((time.perf_counter() - began) / len(passed))
            ended = state.step >= self.steps
            if bool(ended.any()):
                yield Finished(state.rows[ended], state.adversarial[ended])
                total -= int(ended.sum())
                state = state.take(~ended)
            fine = state.step >= self.reference_share * self.steps
            if bool(fine.any()):
                late.append(state.take(fine))
                state = state.take(~fine)
            if len(state.rows):
                ready.append(state)

    def _evaluate(
        self, target: TargetModel, state: S, seconds: float, *, reference: bool
    ) -> GradientPass | None:
        """A pass of a batch; None on out-of-memory, with a smaller batch size from then on.

        Args:
            target: the model.
            state: of the images.
            seconds: that are left, at the quickest of the last passes; 0 as long as too few were
                seen to tell.
            reference: pass the reference model, not the fast one.
        """
        objective, images = partial(self.objective, state=state), state.adversarial
        try:
            if not target.prepared:
                few = state.take(slice(PROBE))
                target.prepare(partial(self.objective, state=few), few.adversarial)
            if seconds >= LONG:
                target.compile_if_faster(objective, images)
            return target.evaluate(objective, images, target.model if reference else None)
        except torch.OutOfMemoryError:
            if target.batch_size == 1:
                raise
            target.batch_size //= 2
            return None


def _next_batch(waiting: list[S], size: int, starts: Iterator[S] | None = None) -> S | None:
    """At most ``size`` of the images that wait, or None; the others go on waiting.

    Args:
        waiting: images that were put back; those that are taken are taken out.
        size: how many are wanted.
        starts: images that have not started: as many join as are wanted.
    """
    while starts and sum(len(state.rows) for state in waiting) < size:
        if (start := next(starts, None)) is None:
            break
        waiting.append(start)
    states = [state for state in waiting if len(state.rows)]
    waiting.clear()
    if not states:
        return None
    joined = states[0]
    if len(states) > 1:
        columns = {
            each.name: torch.cat([getattr(state, each.name) for state in states])
            for each in fields(joined)
        }
        joined = type(joined)(**columns)
    if len(joined.rows) > size:
        waiting.append(joined.take(slice(size, None)))
        joined = joined.take(slice(size))
    return joined
