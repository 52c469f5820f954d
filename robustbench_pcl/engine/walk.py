"""Attacks that go step by step, many images at a time: whoever is done makes room for the next."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from robustbench_pcl.engine.victim import PROBE, Evaluation, Objective, Victim

WARM = 5
"""Passes after which the quickest of them says how long one takes."""
State = dict[str, Tensor]
"""What an attack knows of some images, a row each. ``rows`` says which they are."""


class Steps(Protocol):
    """What the walk needs of an attack."""

    @property
    def steps(self) -> int:
        """The most that an image takes."""

    def candidates(self, state: State) -> Tensor:
        """The images (N, C, H, W) to be passed through the model."""

    def objective(self, model: nn.Module, images: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """What is maximised, (N,), and the logits (N, K) of the same pass."""

    def step(self, victim: Victim, state: State, found: Evaluation) -> State:
        """What is known after a step along the gradient."""

    def reached(self, state: State, logits: Tensor) -> Tensor:
        """Boolean (N,): whose logits are what the attacker wants."""

    def refining(self, state: State) -> Tensor:
        """Boolean (N,): whose steps have become so fine that they are taken on the plain model."""

    def finished(self, state: State) -> Tensor:
        """Boolean (N,): who needs no further step."""

    def result(self, state: State) -> Tensor:
        """The adversarial images (N, C, H, W) of those who are finished."""

    @property
    def retires(self) -> bool:
        """Whether an image may leave with the first candidate that is adversarial."""


class Finished(NamedTuple):
    """Images that are done.

    Attributes:
        rows: int64 (N,), which.
        images: (N, C, H, W), adversarial.
        predictions: int64 (N,), the plain model's classes where they are known already, else None.
    """

    rows: Tensor
    images: Tensor
    predictions: Tensor | None = None


def walk(attack: Steps, victim: Victim, starts: Iterator[State], total: int) -> Iterator[Finished]:
    """Take every image to its end, in any order, a full batch at a time.

    With retirement, an image that the prepared model finds adversarial waits for the plain model's
    verdict on that very image; if that one is not fooled, the image goes on where it was. Where
    memory does not last, batches are halved.

    Args:
        attack: what to do.
        victim: the model, entered.
        starts: what is known of the images at first, of at most some hundreds at a time.
        total: how many images there are.
    """
    queue, refined, suspects = _Queue(starts), _Queue(iter(())), _Queue(iter(()))
    pace = _Pace()
    while True:
        began, size = time.perf_counter(), victim.batch_size
        fast = queue.take(size) if len(refined) < size else {}
        active = fast or refined.take(size)
        if len(suspects) and (len(suspects) >= size or not count(active)):
            queue.put_back(active)
            confirmed, active = _judged(attack, victim, suspects.take(size))
            total -= len(confirmed.rows)
            yield confirmed
        elif count(active):
            passed, everyone = active, attack.candidates(active)
            try:
                victim.settle(_objective(attack, taken(passed, slice(PROBE))), everyone[:PROBE])
                run = victim.evaluate if fast else victim.evaluate_plainly
                found = run(_objective(attack, passed), everyone)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                victim.batch_size = size // 2
                queue.put_back(passed)
                continue
            active, suspected = _stepped(attack, victim, passed, found, everyone)
            suspects.put_back(suspected)
            left = attack.steps * total * pace.seconds(began, len(everyone))
            victim.consider_compiling(left, _objective(attack, passed), everyone)
        else:
            return
        finished = attack.finished(active)
        done = taken(active, finished)
        if count(done):
            total -= count(done)
            yield Finished(done["rows"], attack.result(done))
            active = taken(active, ~finished)
        refining = attack.refining(active)
        refined.put_back(taken(active, refining))
        queue.put_back(taken(active, ~refining))


def _stepped(
    attack: Steps, victim: Victim, state: State, found: Evaluation, candidates: Tensor
) -> tuple[State, State]:
    """One step for everyone: who goes on, and who is suspected to be adversarial already."""
    moved = attack.step(victim, state, found)
    if not (victim.shortcuts.retiring and attack.retires):
        return moved, {}
    reached = attack.reached(state, found.logits)
    suspected = {"suspect": candidates[reached], "logits": found.logits[reached]}
    return taken(moved, ~reached), {**taken(moved, reached), **suspected}


def _judged(attack: Steps, victim: Victim, suspects: State) -> tuple[Finished, State]:
    """Who the plain model finds adversarial, and who goes on."""
    images, logits = suspects.pop("suspect"), suspects.pop("logits")
    if not victim.plain:
        logits = victim.logits(images)
    reached = attack.reached(suspects, logits)
    confirmed = Finished(suspects["rows"][reached], images[reached], logits[reached].argmax(dim=1))
    return confirmed, taken(suspects, ~reached)


def _objective(attack: Steps, state: State) -> Objective:
    return lambda model, images: attack.objective(model, images, state)


def count(state: State) -> int:
    """How many images a state is of."""
    return len(next(iter(state.values()), ()))


def taken(state: State, rows: Tensor | slice) -> State:
    """What is known of some of the images; ``rows`` is an index, a boolean mask or a slice."""
    return {name: values[rows] for name, values in state.items()}


def merged(states: list[State]) -> State:
    """What is known of the images of several states."""
    if len(states) == 1:
        return states[0]
    names = states[0] if states else ()
    return {name: torch.cat([state[name] for state in states]) for name in names}


class _Pace:
    """The quickest pass so far: the first ones pay for warming up, and others for company."""

    def __init__(self) -> None:
        self._passes: list[float] = []

    def seconds(self, began: float, images: int) -> float:
        """Of an image's pass; 0 as long as too few were seen to tell."""
        self._passes.append((time.perf_counter() - began) / images)
        return min(self._passes) if len(self._passes) >= WARM else 0.0


class _Queue:
    """Images that wait: those that were put back, then those that have not started."""

    def __init__(self, starts: Iterator[State]) -> None:
        self._starts = starts
        self._ready: list[State] = []

    def __len__(self) -> int:
        return sum(map(count, self._ready))

    def put_back(self, state: State) -> None:
        if count(state):
            self._ready.append(state)

    def take(self, size: int) -> State:
        """At most ``size`` images, as many as there are."""
        while len(self) < size and (start := next(self._starts, None)) is not None:
            self.put_back(start)
        state = merged(self._ready)
        self._ready = []
        if count(state) > size:
            self.put_back(taken(state, slice(size, None)))
            state = taken(state, slice(size))
        return state
