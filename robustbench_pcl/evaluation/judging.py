"""The plain model's verdicts on adversarial images, as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from robustbench_pcl.engine.victim import Victim
from robustbench_pcl.engine.walk import Finished


class Judged(NamedTuple):
    """Images with the plain model's classes.

    Attributes:
        rows: int64 (N,), which.
        images: (N, C, H, W).
        predictions: int64 (N,).
    """

    rows: Tensor
    images: Tensor
    predictions: Tensor


def judged(victim: Victim, stream: Iterable[Finished]) -> Iterator[Judged]:
    """Classify, in full batches, the images whose class is not known yet."""
    waiting: list[Finished] = []
    for finished in stream:
        if finished.predictions is not None:
            yield Judged(finished.rows, finished.images, finished.predictions)
            continue
        waiting.append(finished)
        if sum(len(one.rows) for one in waiting) >= victim.batch_size:
            yield _classified(victim, waiting)
            waiting = []
    if waiting:
        yield _classified(victim, waiting)


def _classified(victim: Victim, waiting: list[Finished]) -> Judged:
    rows = torch.cat([one.rows for one in waiting])
    images = torch.cat([one.images for one in waiting])
    return Judged(rows, images, classes(victim, images))


def classes(victim: Victim, images: Tensor) -> Tensor:
    """The plain model's classes of images, int64 (N,)."""
    found = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    for rows in torch.split(torch.arange(len(images)), victim.batch_size):
        found[rows] = victim.logits(images[rows]).argmax(dim=1)
    return found
