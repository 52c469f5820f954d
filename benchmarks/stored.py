"""Writing an adversarial set: its share of the run that crafts it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.interleaved import compare
from benchmarks.table import Figure, Row, at_most
from benchmarks.victims import TITLES, standard
from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.evaluation.crafting import SHARD
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.specs.base import Part
from robustbench_pcl.store.adversarial_sets import AdversarialSet, Shard, finish_set, save_shard

IMAGES = 1_000
TITLE = f"writing an adversarial set, {TITLES['fmnist']}"
ATTACK = Part(name="pgd", parameters={"eps": dataset_spec("fmnist").eps, "steps": 10})


def writing(bench: Bench, rounds: int) -> Iterator[Row]:
    """Storing the shards and joining them, against the whole run on conv6."""
    recipe = standard("fmnist")
    checkpoint = bench.train(recipe)
    clean = bench.dataset(recipe.dataset).test.images
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        crafting = Bench(home, device=bench.device_name, images=IMAGES)
        crafting.open(checkpoint.path)

        def craft() -> AdversarialSet:
            shutil.rmtree(crafting.home.results, ignore_errors=True)
            return crafting.craft(recipe, ATTACK)

        stored = craft()
        shards = list(_shards(stored))

        def write() -> None:
            for shard in shards:
                save_shard(home, stored.spec.id, shard)
            finish_set(home, stored.spec, clean, stored.summary.environment)

        runs = compare({"writing": write, "run": craft}, rounds)
    share = runs.ratio("writing", "run")
    low, high = share.spread or (share.value, share.value)
    figure = Figure(100 * share.value, " %", (100 * low, 100 * high))
    details = f"{runs.median('writing'):.2f} of {runs.median('run'):.2f} s for {IMAGES:,} images"
    yield Row(TITLE, "crafting it by PGD-10", figure, at_most(3, " %"), details)


def _shards(stored: AdversarialSet) -> Iterator[Shard]:
    done = 0
    for images, labels in stored.batches(SHARD):
        indices = np.arange(done, done := done + len(labels))
        yield Shard(images, indices, labels, labels, 0.0, 0, 0)
