"""Attacks that go step by step: the engine takes many images through them at once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.base import Attack, Chunk, Goal
from robustbench_pcl.engine.victim import Evaluation, Victim
from robustbench_pcl.engine.walk import Finished, State, count, walk


@dataclass(frozen=True)
class IterativeAttack(Attack):
    """An attack by steps along gradients, each image on its own.

    What is known of images is a :data:`State`, a row an image: ``images`` (clean), ``labels``,
    ``sign`` (+1 to move away from the label, -1 to reach it), ``step`` (how many were taken), and
    whatever the member's :meth:`start` adds.
    """

    steps: int

    @abstractmethod
    def start(self, state: State, seeds: Tensor) -> State:
        """What the member adds to what is known of images at first; ``seeds`` int64 (N,)."""

    @abstractmethod
    def candidates(self, state: State) -> Tensor:
        """The images (N, C, H, W) in [0, 1] to be passed through the model."""

    @abstractmethod
    def objective(self, model: nn.Module, images: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """What is to grow, one value an image (N,), and the logits (N, K) of the same pass."""

    @abstractmethod
    def step(self, victim: Victim, state: State, found: Evaluation) -> State:
        """What is known after a step along the gradient."""

    @abstractmethod
    def result(self, state: State) -> Tensor:
        """The adversarial images (N, C, H, W) of those who are finished."""

    def finished(self, state: State) -> Tensor:
        """Boolean (N,): who has taken all steps."""
        return state["step"] >= self.steps

    def refining(self, state: State) -> Tensor:
        """Boolean (N,): whose steps have become so fine that they need the model's precision."""
        return torch.zeros_like(state["step"], dtype=torch.bool)

    def reached(self, state: State, logits: Tensor) -> Tensor:
        """Boolean (N,): whose logits (N, K) are what the attacker wants."""
        return (logits.argmax(dim=1) == state["labels"]) == (state["sign"] < 0)

    def perturb(self, victim: Victim, images: Tensor, goal: Goal, seeds: Tensor) -> Tensor:
        """Take all images to their end."""
        rows = torch.arange(len(images), device=images.device)
        adversarial = images.clone()
        chunks = iter([Chunk(rows, images, goal, seeds)])
        for finished in self.stream(victim, chunks, len(images)):
            adversarial[finished.rows] = finished.images
        return adversarial

    def stream(self, victim: Victim, chunks: Iterator[Chunk], total: int) -> Iterator[Finished]:
        """Take images through the steps in batches that are refilled as images leave."""
        return walk(self, victim, map(self._begin, chunks), total)

    def _begin(self, chunk: Chunk) -> State:
        state = {
            "rows": chunk.rows,
            "images": chunk.images,
            "labels": chunk.goal.labels,
            "sign": torch.full_like(chunk.goal.labels, chunk.goal.sign),
            "step": torch.zeros_like(chunk.goal.labels),
        }
        return self.start(state, chunk.seeds) if count(state) else {}
