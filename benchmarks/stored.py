"""Writing an adversarial set: its share of the run that makes it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.interleaved import compare
from benchmarks.table import Figure, Row, at_most
from benchmarks.targets import TITLES, standard
from robustbench_pcl.attacks.gradient_descent import PGD
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.evaluation.generate import SHARD
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.store.adversarial_sets import AdversarialSet, Shard, finish_set, save_shard

IMAGES = 1_000
TITLE = f"writing an adversarial set, {TITLES['fmnist']}"
ATTACK = PGD(eps=dataset_spec("fmnist").eps, steps=10)


def writing(workspace: Workspace, rounds: int) -> Iterator[Row]:
    """Storing the shards and joining them, against the whole run on conv6."""
    recipe = standard("fmnist")
    checkpoint = workspace.train(recipe)
    clean = workspace.dataset(recipe.dataset).test.images
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "written")
        other = Workspace(Path(folder), device=workspace.device_name)
        other.open(checkpoint.path)

        def generate() -> AdversarialSet:
            shutil.rmtree(other.paths.results, ignore_errors=True)
            return other.adversarial_set(recipe, ATTACK, images=IMAGES)

        stored = generate()
        shards = list(_shards(stored))

        def write() -> None:
            for shard in shards:
                save_shard(written, stored.spec.id, shard)
            finish_set(written, stored.spec, clean, stored.summary.environment)

        runs = compare({"writing": write, "run": generate}, rounds)
    share = runs.ratio("writing", "run")
    low, high = share.spread or (share.value, share.value)
    figure = Figure(100 * share.value, " %", (100 * low, 100 * high))
    details = f"{runs.median('writing'):.2f} of {runs.median('run'):.2f} s for {IMAGES:,} images"
    yield Row(TITLE, "making it by PGD-10", figure, at_most(3, " %"), details)


def _shards(stored: AdversarialSet) -> Iterator[Shard]:
    done = 0
    for images, labels in stored.batches(SHARD):
        indices = np.arange(done, done := done + len(labels))
        yield Shard(images, indices, labels, labels, 0.0, 0, 0)
