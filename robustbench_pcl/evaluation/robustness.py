"""How much of a model's accuracy withstands an attack: the whole evaluation in one call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.base import Attack, Chunk, Goal, check_images, draw_seeds
from robustbench_pcl.engine.shortcuts import Shortcuts, shortcuts_for
from robustbench_pcl.engine.victim import Victim
from robustbench_pcl.evaluation.judging import classes, judged


@dataclass(frozen=True)
class Robustness:
    """What an attack leaves of a model's accuracy. Every verdict is the plain model's.

    Attributes:
        clean: boolean (N,), the clean image is classified as its label.
        robust: boolean (N,), so is the adversarial one. Where images leave once they are
            adversarial, only those that withstood every step and were right to begin with.
        adversarial: float (N, C, H, W); where images leave early, the first that fooled the model.
        shortcuts: those that were taken.
        forward_passes: images passed forward.
        backward_passes: images passed backward.
    """

    clean: Tensor
    robust: Tensor
    adversarial: Tensor
    shortcuts: Shortcuts
    forward_passes: int
    backward_passes: int


def robustness(
    model: nn.Module,
    attack: Attack,
    images: Tensor,
    labels: Tensor,
    *,
    shortcuts: Shortcuts | None = None,
    seed: int = 0,
) -> Robustness:
    """Attack a model, and say what it has right before and after.

    Args:
        model: maps images to logits (N, K); normalisation is inside it.
        attack: the attack, with its parameters.
        images: float (N, C, H, W) in [0, 1], on the model's device.
        labels: int64 (N,).
        shortcuts: those that may be taken; those that pay on the device if None, EXACT for none.
        seed: of random starts.

    Raises:
        ValueError: images are not floats in [0, 1], or labels do not fit them.
    """
    check_images(images, labels)
    taken = shortcuts_for(images.device) if shortcuts is None else shortcuts
    seeds = draw_seeds(len(images), torch.Generator().manual_seed(seed))
    adversarial = images.clone()
    with Victim(model, taken) as victim:
        clean = classes(victim, images) == labels
        predictions = torch.where(clean, labels, -1)
        rows = torch.arange(len(images), device=images.device)
        if taken.retiring:
            rows = rows[clean]

        def chunks() -> Iterator[Chunk]:
            for some in torch.split(rows, victim.batch_size):
                goal = Goal(labels[some])
                yield Chunk(some, images[some], goal, seeds[some.cpu()])

        for done in judged(victim, attack.stream(victim, chunks(), len(rows))):
            adversarial[done.rows] = done.images
            predictions[done.rows] = done.predictions
        return Robustness(
            clean=clean,
            robust=predictions == labels,
            adversarial=adversarial,
            shortcuts=victim.shortcuts,
            forward_passes=victim.forward_passes,
            backward_passes=victim.backward_passes,
        )
