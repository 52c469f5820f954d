"""Crafting a stored adversarial set, shard by shard."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Attack, Goal, draw_seeds
from robustbench_pcl.attacks.victim import Victim
from robustbench_pcl.data.batches import pixels
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.progress import Progress
from robustbench_pcl.registry import build
from robustbench_pcl.specs.base import Part, Scalar
from robustbench_pcl.store.adversarial_sets import (
    AdversarialSet,
    SetSpec,
    Shard,
    find_set,
    finish_set,
    save_shard,
    stored_shards,
)
from robustbench_pcl.store.atomic import require_writable
from robustbench_pcl.store.records import ModelRecord
from robustbench_pcl.training.assemble import describe_environment

SHARD = 256
"""Images a shard: what a crash can lose."""


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
    """

    source: SupervisedModel
    record: ModelRecord
    attack: Attack
    dataset: Dataset
    n: int
    seed: int
    device: torch.device
    folder: Path

    @property
    def spec(self) -> SetSpec:
        """What the set is made from."""
        return set_spec(self.record, self.attack, self.dataset, self.n, self.seed)

    def execute(self, progress: Progress) -> AdversarialSet:
        """Craft the images that are not stored yet; return the finished set."""
        spec = self.spec
        stored = find_set(self.folder, spec.id)
        if stored is not None:
            return stored
        require_writable(self.folder)
        seeds = draw_seeds(self.n, torch.Generator().manual_seed(self.seed))
        done = stored_shards(self.folder, spec.id)
        title = f"{attack_name(self.attack)} on {self.record.recipe.name}"
        with progress.task(title, self.n) as advance:
            for start in range(0, self.n, SHARD):
                stop = min(start + SHARD, self.n)
                if done.get(start) != stop - start:
                    shard = self._shard(np.arange(start, stop), seeds[start:stop])
                    save_shard(self.folder, spec.id, shard)
                advance(stop - start, "")
        environment = describe_environment(self.device)
        return finish_set(self.folder, spec, self.dataset.test.images, environment)

    def _shard(self, indices: np.ndarray, seeds: torch.Tensor) -> Shard:
        clean = torch.from_numpy(np.array(self.dataset.test.images[indices]))
        labels = torch.from_numpy(np.array(self.dataset.test.labels[indices])).to(self.device)
        began = time.perf_counter()
        with Victim(self.source) as victim:
            images = pixels(clean.to(self.device))
            adversarial = self.attack.perturb(victim, images, Goal(labels), seeds)
            forward_passes, backward_passes = victim.forward_passes, victim.backward_passes
            predictions = victim.logits(adversarial).argmax(dim=1)
        return Shard(
            images=adversarial.float().cpu().numpy(),
            indices=indices,
            labels=labels.cpu().numpy(),
            predictions=predictions.cpu().numpy(),
            seconds=time.perf_counter() - began,
            forward_passes=forward_passes,
            backward_passes=backward_passes,
        )


def set_spec(record: ModelRecord, attack: Attack, dataset: Dataset, n: int, seed: int) -> SetSpec:
    """What an adversarial set is made from, with every parameter of the attack written out."""
    return SetSpec(
        source=record,
        attack=resolved(attack),
        norm=attack.norm,
        data=dataset.record("test"),
        n=n,
        seed=seed,
    )


def build_attack(part: Part) -> Attack:
    """The attack that a part names.

    Raises:
        UserError: there is no such attack or parameter, or a value is wrong for it.
    """
    defaults = {entry.name: entry.default for entry in fields(ATTACKS[part.name])}
    for name, value in part.parameters.items():
        kind = type(defaults.get(name, value))
        if not _is(value, kind):
            raise UserError(
                f"{name} of {part.name} is {_KINDS[kind]}, not {value!r}.",
                f"See what it takes: pclbench attacks show {part.name}.",
            )
    attack: Attack = build(ATTACKS, part)
    return attack


_KINDS = {int: "a whole number", float: "a finite number", str: "a word"}


def _is(value: Scalar, kind: type) -> bool:
    """Whether a parameter's value is of the kind that its default is."""
    if kind is float:
        return type(value) in (int, float) and math.isfinite(float(value))
    return type(value) is kind


def resolved(attack: Attack) -> Part:
    """The attack as a part with all its parameters."""
    parameters = {entry.name: getattr(attack, entry.name) for entry in fields(attack)}
    return Part(name=attack_name(attack), parameters=parameters)


def attack_name(attack: Attack) -> str:
    """The name of an attack in its family."""
    return ATTACKS.name_of(type(attack))
