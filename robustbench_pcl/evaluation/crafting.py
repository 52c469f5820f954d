"""Crafting a stored adversarial set, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from robustbench_pcl.attacks.base import Attack, Chunk, Goal, draw_seeds
from robustbench_pcl.attacks.parts import attack_name, resolved
from robustbench_pcl.data.batches import pixels
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.engine.shortcuts import EXACT, Shortcuts, shortcuts_for
from robustbench_pcl.engine.victim import Victim
from robustbench_pcl.evaluation.judging import judged
from robustbench_pcl.evaluation.shards import OpenShards
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.progress import Progress
from robustbench_pcl.specs.names import CraftingMode
from robustbench_pcl.store.adversarial_sets import (
    AdversarialSet,
    SetSpec,
    find_set,
    finish_set,
    stored_shards,
)
from robustbench_pcl.store.atomic import require_writable
from robustbench_pcl.store.records import ModelRecord
from robustbench_pcl.training.assemble import describe_environment

SHARD = 256
"""Images a shard: what a crash can lose, beside those that are being attacked."""


@dataclass(frozen=True)
class Crafting:
    """One adversarial set to be made.

    Attributes:
        source: the model that is attacked.
        record: what is known of it.
        attack: the attack.
        dataset: the clean images; their test split is attacked.
        n: how many, the first ones.
        seed: of random starts.
        device: where the model is.
        folder: of the stored sets.
        mode: how, see `SetSpec.crafting`.
        clean_predictions: int64 (n,), the source's classes of the clean images; those that it has
            wrong are left as they are. None to attack all.
    """

    source: SupervisedModel
    record: ModelRecord
    attack: Attack
    dataset: Dataset
    n: int
    seed: int
    device: torch.device
    folder: Path
    mode: CraftingMode
    clean_predictions: np.ndarray | None = None

    @property
    def spec(self) -> SetSpec:
        """What the set is made from."""
        return set_spec(self.record, self.attack, self.dataset, self.n, self.seed, mode=self.mode)

    def execute(self, progress: Progress) -> AdversarialSet:
        """Craft the images that are not stored yet; return the finished set."""
        spec = self.spec
        stored = find_set(self.folder, spec.id)
        if stored is not None:
            return stored
        require_writable(self.folder)
        done = stored_shards(self.folder, spec.id)
        runs = [np.arange(start, min(start + SHARD, self.n)) for start in range(0, self.n, SHARD)]
        missing = [run for run in runs if done.get(int(run[0])) != len(run)]
        left = sum(int(self._attacked(run).sum()) for run in missing)
        title = f"{attack_name(self.attack)} on {self.record.recipe.name}"
        with (
            progress.task(title, self.n) as advance,
            Victim(self.source, self._shortcuts()) as victim,
        ):
            advance(self.n - left, "")
            shards = OpenShards(self.folder, spec.id, victim)
            chunks = self._chunks(missing, shards)
            for found in judged(victim, self.attack.stream(victim, chunks, left)):
                shards.fill(found)
                advance(len(found.rows), "")
        environment = describe_environment(self.device)
        return finish_set(self.folder, spec, self.dataset.test.images, environment)

    def _attacked(self, run: np.ndarray) -> np.ndarray:
        """Boolean (N,): which of some images are attacked."""
        if self.clean_predictions is None:
            return np.ones(len(run), dtype=bool)
        return np.asarray(self.clean_predictions[run] == self.dataset.test.labels[run])

    def _shortcuts(self) -> Shortcuts:
        if self.mode == "exact":
            return EXACT
        return replace(shortcuts_for(self.device), retiring=self.mode == "until-fooled")

    def _chunks(self, runs: list[np.ndarray], shards: OpenShards) -> Iterator[Chunk]:
        """The images to be attacked, a shard opened for each run of them."""
        seeds = draw_seeds(self.n, torch.Generator().manual_seed(self.seed))
        for run in runs:
            labels = np.array(self.dataset.test.labels[run])
            images = pixels(torch.from_numpy(np.array(self.dataset.test.images[run])))
            attacked, predictions = self._attacked(run), np.full(len(run), -1)
            if self.clean_predictions is not None:
                predictions = np.where(attacked, -1, self.clean_predictions[run])
            shards.open(run, images.numpy().copy(), labels, predictions)
            goal = Goal(torch.from_numpy(labels[attacked]).to(self.device))
            rows = torch.from_numpy(run[attacked])
            yield Chunk(rows.to(self.device), images[attacked].to(self.device), goal, seeds[rows])


def set_spec(
    record: ModelRecord,
    attack: Attack,
    dataset: Dataset,
    n: int,
    seed: int,
    *,
    mode: CraftingMode,
) -> SetSpec:
    """What an adversarial set is made from, with every parameter of the attack written out."""
    return SetSpec(
        source=record,
        attack=resolved(attack),
        norm=attack.norm,
        data=dataset.record("test"),
        n=n,
        seed=seed,
        crafting=mode,
    )
