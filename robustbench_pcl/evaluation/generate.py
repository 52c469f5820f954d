"""Making a stored adversarial set, shard by shard."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.base import Attack, Chunk, Finished, Goal, draw_seeds
from robustbench_pcl.attacks.checks import PROBE, check_finite, check_model
from robustbench_pcl.attacks.fast_model import EXACT, shortcuts_for
from robustbench_pcl.attacks.runner import classified
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.data.batches import pixels
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.environment import current_environment
from robustbench_pcl.progress import Progress
from robustbench_pcl.store.adversarial_sets import (
    AdversarialSet,
    SetSpecification,
    Shard,
    finish_set,
    save_shard,
    stored_shards,
)
from robustbench_pcl.store.atomic import require_writable

SHARD = 256
"""Images in a shard: what a crash can lose, beside those that are being attacked."""
BATCH = 256
"""Images that are classified at once."""
PENDING = -2
"""The class of an image that is still to be attacked; -1 is that of logits with a NaN."""

Array = np.ndarray[Any, Any]


def generate_set(
    model: nn.Module,
    attack: Attack,
    specification: SetSpecification,
    dataset: Dataset,
    folder: Path,
    *,
    device: torch.device,
    progress: Progress,
    clean_predictions: Array | None = None,
) -> AdversarialSet:
    """Make the images that are not stored yet; return the finished set.

    Args:
        model: the source, on the device.
        attack: the attack.
        specification: what the set is made from.
        dataset: the clean images; the first of the test split are attacked.
        folder: of the stored sets.
        device: where the model is.
        progress: the progress reporter.
        clean_predictions: int64 (n,), the source's classes of the clean images; those that it has
            wrong are left as they are. None to attack all.
    """
    require_writable(folder)
    n, identity = specification.n, specification.id
    labels = np.array(dataset.test.labels[:n])
    predictions = np.full(n, PENDING)
    if clean_predictions is not None:
        predictions = np.where(clean_predictions == labels, PENDING, clean_predictions)
    shortcuts = EXACT
    if specification.mode != "exact":
        early_stop = specification.mode == "early-stop"
        shortcuts = replace(shortcuts_for(device), early_stop=early_stop)
    stored = stored_shards(folder, identity)
    runs = [np.arange(start, min(start + SHARD, n)) for start in range(0, n, SHARD)]
    missing = [run for run in runs if stored.get(int(run[0])) != len(run)]
    left = sum(int((predictions[run] == PENDING).sum()) for run in missing)
    title = f"{attack.label} on {specification.source.recipe.name}"
    with (
        progress.task(title, n) as advance,
        TargetModel(model, shortcuts, progress.say) as target,
    ):
        advance(n - left, "")
        first = np.flatnonzero(predictions == PENDING)[:PROBE]
        if left:
            some = torch.from_numpy(np.array(dataset.test.images[first])).to(device)
            known = torch.from_numpy(labels[first]).to(device)
            check_model(target, pixels(some), known, gradient=attack.needs_gradient)
        shards = Shards(folder, identity, target)
        seeds = draw_seeds(n, torch.Generator().manual_seed(specification.seed))
        clean = Clean(dataset.test.images, labels, predictions, seeds)
        chunks = shards.chunks(missing, clean, device)
        finished = classified(attack, target, attack.stream(target, chunks, left))
        for count in shards.keep(finished):
            advance(count, "")
        target.say_blind(shards.blind, n)
    environment = current_environment(device)
    return finish_set(folder, specification, dataset.test.images, environment)


def clean_predictions(model: nn.Module, dataset: Dataset, n: int, device: torch.device) -> Array:
    """The model's classes, int64 (n,), of the first ``n`` clean test images, in eval mode.

    Raises:
        InvalidInputError: its answers cannot be judged, or some of its logits are not finite.
    """
    images = torch.from_numpy(np.array(dataset.test.images[:n]))
    found = []
    with TargetModel(model) as target:  # a batch of floats at a time: memory is flat in n
        few = torch.from_numpy(np.array(dataset.test.labels[: min(n, PROBE)])).to(device)
        check_model(target, pixels(images[:PROBE].to(device)), few, gradient=False)
        for batch in torch.split(images, BATCH):
            logits = target.logits(pixels(batch.to(device)))
            check_finite(logits, "clean images")
            found.append(logits.argmax(dim=1).cpu())
    return torch.cat(found).numpy()


class Clean(NamedTuple):
    """What is known of the clean images.

    Attributes:
        images: uint8 (>= n, C, H, W).
        labels: int64 (n,).
        predictions: int64 (n,), the source's classes of images that are not to be attacked;
            ``PENDING`` for those that are.
        seeds: int64 (n,), of the random starts.
    """

    images: Array
    labels: Array
    predictions: Array
    seeds: Tensor


@dataclass(eq=False)
class Shards:
    """Shards that fill up in any order; each is stored once it is whole, with what it has cost.

    Attributes:
        folder: of the stored sets.
        identity: of the set.
        target: the model that counts the passes.
        open: shards that are begun and not stored. The class of an image to come is ``PENDING``.
        spent: seconds, and images passed forward and backward, up to the last shard stored.
        blind: images that withstood, and of which in some pass no gradient was finite.
    """

    folder: Path
    identity: str
    target: TargetModel
    open: list[Shard] = field(default_factory=list)
    spent: tuple[float, int, int] = field(default_factory=lambda: (time.perf_counter(), 0, 0))
    blind: int = 0

    def chunks(self, runs: Iterable[Array], clean: Clean, device: torch.device) -> Iterator[Chunk]:
        """The images that are attacked, a shard begun for each run of consecutive positions."""
        for run in runs:
            images = clean.images[run].astype(np.float32) / 255
            labels, predictions = clean.labels[run], clean.predictions[run]
            self.open.append(Shard(images, run, labels, predictions, 0.0, 0, 0))
            attacked = predictions == PENDING
            rows = torch.from_numpy(run[attacked])
            goal = Goal(torch.from_numpy(labels[attacked]).to(device))
            wanted = torch.from_numpy(images[attacked]).to(device)  # a copy
            yield Chunk(rows.to(device), wanted, goal, clean.seeds[rows].to(device))

    def keep(self, stream: Iterable[Finished]) -> Iterator[int]:
        """Put classified images in their places, and store each shard once it is whole.

        Yields:
            How many images were put, once what is whole is stored.
        """
        for done in chain(stream, (None,)):  # at the end, shards of which nothing was attacked
            if done is not None and done.predictions is not None:
                rows, images = done.chunk.rows.cpu().numpy(), done.images.cpu().numpy()
                predictions = done.predictions.cpu().numpy()
                withstood = ~done.chunk.goal.reached(done.predictions)
                self.blind += len(self.target.blind & {*done.chunk.rows[withstood].tolist()})
                for shard in self.open:
                    first, last = shard.indices[[0, -1]]
                    here = (rows >= first) & (rows <= last)
                    shard.images[rows[here] - first] = images[here]
                    shard.predictions[rows[here] - first] = predictions[here]
            for shard in [shard for shard in self.open if (shard.predictions != PENDING).all()]:
                before = self.spent
                target = self.target
                self.spent = (time.perf_counter(), target.forward_passes, target.backward_passes)
                whole = replace(
                    shard,
                    seconds=self.spent[0] - before[0],
                    forward_passes=self.spent[1] - before[1],
                    backward_passes=self.spent[2] - before[2],
                    precision=target.shortcuts.precision,
                )
                save_shard(self.folder, self.identity, whole)
                self.open.remove(shard)
            if done is not None:
                yield len(done)
