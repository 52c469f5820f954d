"""Which wrong classes an image is attacked towards, the most promising first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from robustbench_pcl.attacks.balls import ball
from robustbench_pcl.attacks.base import Chunk, Norm
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from robustbench_pcl.attacks.target import TargetModel

Order = Literal["logits", "malt"]
"""By the clean image's logits, as AutoAttack has it, or by how near linear logits would be."""

CANDIDATES = 2
"""MALT looks at this many times the classes that are attacked, the likeliest: 18 backward passes
for 9 targets of 100 classes, where the attacks themselves take 900."""


@dataclass(frozen=True)
class Ranking:
    """A rule that puts the wrong classes of an image in order.

    By the reference model, so that no shortcut changes an image's targets. What was ranked once is
    remembered with the model: an attack asks again for each of its targets.

    Attributes:
        order: "logits", or "malt": (z_y - z_k) over its gradient's dual norm, the smallest first,
            which is the distance to the boundary if the logits are linear (Melamed et al., "MALT",
            NeurIPS 2024).
        norm: of the perturbation.
        count: classes that are wanted; there are K - 1 at most.
    """

    order: Order
    norm: Norm
    count: int

    def pairs(self, target: TargetModel, chunk: Chunk, rank: int) -> Tensor:
        """Each image's label, and its wrong class of a rank, int64 (N, 2).

        Of a goal that has a target class, the likeliest other class and that one.

        Args:
            target: the model, entered.
            chunk: clean images with their goal.
            rank: from 1; 0 is the first as well, and one that is too large the last.
        """
        labels = chunk.goal.labels
        if chunk.goal.targeted:
            others = target.logits(chunk.images).scatter(1, labels[:, None], -torch.inf)
            return torch.stack([others.argmax(dim=1), labels], dim=1)
        classes = self.classes(target, chunk)
        return torch.stack([labels, classes[:, min(max(rank, 1), classes.shape[1]) - 1]], dim=1)

    def classes(self, target: TargetModel, chunk: Chunk) -> Tensor:
        """The wrong classes of each image, int64 (N, ``count`` or K - 1), the best first.

        Args:
            target: the model, entered.
            chunk: clean images with the classes to leave.
        """
        pixels, labels = chunk.images.cpu().numpy(), chunk.goal.labels.tolist()
        keys = [
            (self, label, hash(image.tobytes()))
            for label, image in zip(labels, pixels, strict=True)
        ]
        unknown = [row for row, key in enumerate(keys) if key not in target.rankings]
        if unknown:
            found = self._ranked(target, chunk[torch.tensor(unknown, device=chunk.rows.device)])
            target.rankings.update(zip((keys[row] for row in unknown), found, strict=True))
        return torch.stack([target.rankings[key] for key in keys])

    def _ranked(self, target: TargetModel, chunk: Chunk) -> Tensor:
        labels = chunk.goal.labels[:, None]
        logits = target.logits(chunk.images).scatter(1, labels, -torch.inf)
        likeliest = logits.argsort(dim=1, descending=True, stable=True)[:, :-1]
        if self.order == "logits":
            return likeliest[:, : self.count]
        likeliest = likeliest[:, : CANDIDATES * self.count]
        scores = torch.stack([self._far(target, chunk, each) for each in likeliest.T], dim=1)
        return likeliest.gather(1, scores.argsort(dim=1, stable=True))[:, : self.count]

    def _far(self, target: TargetModel, chunk: Chunk, classes: Tensor) -> Tensor:
        """How far the boundary to a class, int64 (N,), is for each image if all is linear, (N,)."""
        pairs = torch.stack([chunk.goal.labels, classes], dim=1)
        inside, done = ball(chunk, self.norm, 0), 0
        distances: list[Tensor] = []
        while done < len(chunk):
            batch = slice(done, done + target.batch_size)
            try:
                found = target.differentiate(AttackLoss.margin, chunk.images[batch], pairs[batch])
            except torch.OutOfMemoryError:
                target.halve_batches()
                continue
            slope = inside[batch].dual_norm(found.gradient)
            distances.append(-found.values / slope.clamp_min(torch.finfo(slope.dtype).tiny))
            done += len(found)
        return torch.cat(distances)
