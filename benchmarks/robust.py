"""Robust accuracy with shortcuts of one's own choice; ``evaluate`` takes all or none."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.base import Attack, Chunk, Goal, draw_seeds
from robustbench_pcl.attacks.fast_model import Shortcuts
from robustbench_pcl.attacks.stages import classified
from robustbench_pcl.attacks.target import TargetModel


def robust(
    model: nn.Module, attack: Attack, images: Tensor, labels: Tensor, shortcuts: Shortcuts
) -> Tensor:
    """Boolean (N,): which images are classified right, clean and under an attack.

    With early stop, images that are wrong already are not attacked.
    """
    seeds = draw_seeds(len(images), torch.Generator().manual_seed(0)).to(images.device)
    with TargetModel(model, shortcuts) as target:
        right = target.logits(images).argmax(dim=1) == labels
        attacked = right if shortcuts.early_stop else torch.ones_like(right)
        rows = attacked.nonzero()[:, 0]

        def chunks() -> Iterator[Chunk]:
            for some in torch.split(rows, target.batch_size):
                yield Chunk(some, images[some], Goal(labels[some]), seeds[some])

        stream = attack.stream(target, chunks(), len(rows))
        for done in classified(attack, target, stream):
            right[done.chunk.rows] &= done.predictions == labels[done.chunk.rows]
    return right
