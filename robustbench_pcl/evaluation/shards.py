"""Shards that fill up in any order."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robustbench_pcl.engine.victim import Victim
from robustbench_pcl.evaluation.judging import Judged
from robustbench_pcl.store.adversarial_sets import Shard, save_shard


@dataclass(eq=False)
class _Open:
    """A shard, and which of its images are missing."""

    images: np.ndarray
    indices: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    missing: np.ndarray


class OpenShards:
    """Keeps shards until they are whole, then stores them with what they have cost.

    Args:
        folder: of the stored sets.
        identity: of the set.
        victim: who counts the passes.
    """

    def __init__(self, folder: Path, identity: str, victim: Victim) -> None:
        self._folder, self._identity, self._victim = folder, identity, victim
        self._open: list[_Open] = []
        self._spent = (time.perf_counter(), 0, 0)

    def open(
        self, indices: np.ndarray, images: np.ndarray, labels: np.ndarray, predictions: np.ndarray
    ) -> None:
        """Begin a shard.

        Args:
            indices: int64 (N,), consecutive positions in the clean split.
            images: float32 (N, C, H, W), clean.
            labels: int64 (N,).
            predictions: int64 (N,), -1 for images that are to come; the others stay as they are.
        """
        missing = predictions < 0
        self._open.append(_Open(images, indices, labels, predictions, missing))
        self._store_whole()

    def fill(self, found: Judged) -> None:
        """Put images in their places."""
        rows, images, predictions = (values.cpu().numpy() for values in found)
        for shard in self._open:
            first, last = shard.indices[[0, -1]]
            here = (rows >= first) & (rows <= last)
            places = rows[here] - first
            shard.images[places] = images[here]
            shard.predictions[places] = predictions[here]
            shard.missing[places] = False
        self._store_whole()

    def _store_whole(self) -> None:
        for shard in [shard for shard in self._open if not shard.missing.any()]:
            self._open.remove(shard)
            now = (
                time.perf_counter(),
                self._victim.forward_passes,
                self._victim.backward_passes,
            )
            seconds, forward, backward = (b - a for a, b in zip(self._spent, now, strict=True))
            self._spent = now
            save_shard(
                self._folder,
                self._identity,
                Shard(
                    images=shard.images,
                    indices=shard.indices,
                    labels=shard.labels,
                    predictions=shard.predictions,
                    seconds=seconds,
                    forward_passes=int(forward),
                    backward_passes=int(backward),
                    precision=self._victim.shortcuts.precision,
                ),
            )
