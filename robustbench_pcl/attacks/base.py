"""What every attack shares: its call, its checks, its stream of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from robustbench_pcl.engine.shortcuts import EXACT, Shortcuts
from robustbench_pcl.engine.victim import Victim
from robustbench_pcl.engine.walk import Finished

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Goal:
    """What an attack wants of each image.

    Attributes:
        labels: int64 (N,), the classes to move away from, or the ones to reach.
        targeted: the labels are to be reached.
    """

    labels: Tensor
    targeted: bool = False

    @property
    def sign(self) -> int:
        """+1 where the loss on ``labels`` is to grow, -1 where it is to shrink."""
        return -1 if self.targeted else 1

    def reached(self, logits: Tensor) -> Tensor:
        """Boolean (N,): which images the model classifies as the attacker wants."""
        hit = logits.argmax(dim=1) == self.labels
        return hit if self.targeted else ~hit

    def take(self, rows: Tensor) -> Goal:
        """The goal of some of the images; ``rows`` is an index or a boolean mask."""
        return Goal(self.labels[rows], self.targeted)


class Chunk(NamedTuple):
    """Images that come together.

    Attributes:
        rows: int64 (N,), which they are among all.
        images: float (N, C, H, W) in [0, 1], clean.
        goal: what to do to each.
        seeds: int64 (N,), one an image.
    """

    rows: Tensor
    images: Tensor
    goal: Goal
    seeds: Tensor


@dataclass(frozen=True)
class Attack(ABC):
    """An attack is its parameters; calling it makes adversarial images.

    A member of the family is a frozen dataclass whose fields carry ``doc`` in their metadata; it
    writes :meth:`perturb`.

    Attributes:
        norm: of the perturbation that it bounds or minimises.
        random_start: it starts at a point of its own for each image.
        retires: where only the verdict is asked, an image may leave with the first step that
            is adversarial.
    """

    norm: ClassVar[Norm]
    random_start: ClassVar[bool] = False
    retires: ClassVar[bool] = False

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        targets: Tensor | None = None,
        generator: torch.Generator | None = None,
        shortcuts: Shortcuts = EXACT,
    ) -> Tensor:
        """Return adversarial images, of the shape, type and device of ``images``.

        The model is attacked in eval mode and left as it was.

        Args:
            model: maps images to logits (N, K); normalisation, if any, is inside it.
            images: float (N, C, H, W) in [0, 1].
            labels: int64 (N,), true classes.
            targets: int64 (N,), the classes to reach; None for an untargeted attack.
            generator: of the random start, on the CPU. Each image draws a seed of its own from
                it, so the result does not depend on how images are cut into batches.
            shortcuts: what the engine may do to be fast; nothing, unless told.

        Raises:
            ValueError: images are not floats in [0, 1], or labels do not fit them.
            UserError: the model cannot be attacked with the attack's loss.
        """
        check_images(images, labels, targets)
        goal = Goal(labels if targets is None else targets, targets is not None)
        seeds = draw_seeds(len(images), generator or torch.Generator().manual_seed(0))
        with Victim(model, shortcuts) as victim:
            return self.perturb(victim, images.detach(), goal, seeds)

    @abstractmethod
    def perturb(self, victim: Victim, images: Tensor, goal: Goal, seeds: Tensor) -> Tensor:
        """Make adversarial images; no image's result may depend on the others.

        Args:
            victim: the model, frozen.
            images: float (N, C, H, W) in [0, 1].
            goal: what to do to each.
            seeds: int64 (N,), one an image.
        """

    def stream(
        self,
        victim: Victim,
        chunks: Iterator[Chunk],
        total: int,  # noqa: ARG002 - for members
    ) -> Iterator[Finished]:
        """Make adversarial images of many, as they come; in any order.

        Args:
            victim: the model, frozen.
            chunks: the images, some hundreds at a time, so that memory is flat in their number.
            total: how many there are.
        """
        for rows, images, goal, seeds in chunks:
            yield Finished(rows, self.perturb(victim, images, goal, seeds))


def draw_seeds(count: int, generator: torch.Generator) -> Tensor:
    """One seed an image, int64 (count,)."""
    return torch.randint(2**62, (count,), generator=generator)


def uniform_noise(images: Tensor, seeds: Tensor) -> Tensor:
    """Noise in [-1, 1] like ``images``, each image's from its own seed, the same on any device."""
    generator = torch.Generator()
    shape, kind = images.shape[1:], images.dtype
    drawn = [
        torch.rand(shape, generator=generator.manual_seed(seed), dtype=kind)
        for seed in seeds.tolist()
    ]
    return (torch.stack(drawn) * 2 - 1).to(images.device) if drawn else torch.zeros_like(images)


def check_images(images: Tensor, labels: Tensor, targets: Tensor | None = None) -> None:
    """Refuse what no attack could be made on.

    Raises:
        ValueError: images are not floats in [0, 1], or labels or targets do not fit them.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be float (N, C, H, W), not {tuple(images.shape)}")
    if len(images) and not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError("images must be pixels in [0, 1]; put normalisation inside the model")
    for name, value in (("labels", labels), ("targets", targets)):
        if value is not None and (value.shape != images.shape[:1] or value.dtype != torch.int64):
            raise ValueError(f"{name} must be int64 (N,) with N = {len(images)}")
