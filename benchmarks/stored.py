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
from robustbench_pcl.evaluation.generate import PART
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.store.adversarial_sets import AdversarialSet
from robustbench_pcl.store.parts import Draft, Part, finish_set, save_part

IMAGES = 1_000
TITLE = f"writing an adversarial set, {TITLES['fmnist']}"
ATTACK = PGD(eps=dataset_spec("fmnist").eps, steps=10)


def writing(workspace: Workspace, rounds: int) -> Iterator[Row]:
    """Storing the parts and joining them, against the whole run on conv6."""
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
        parts = list(_parts(stored))
        labels = np.array(workspace.dataset(recipe.dataset).test.labels[:IMAGES])
        rows = np.arange(IMAGES)

        def write() -> None:
            kept = [save_part(written, stored.spec.id, part) for part in parts]
            draft = Draft(
                stages=stored.stages,
                labels=labels,
                predictions=labels,
                felled_by=stored.felled_by(),
                blind=rows < 0,
                parts=kept,
                part=rows // PART,
                position=rows % PART,
            )
            finish_set(written, stored.spec, draft, clean, stored.summary.environment)

        runs = compare({"writing": write, "run": generate}, rounds)
    share = runs.ratio("writing", "run")
    low, high = share.spread or (share.value, share.value)
    figure = Figure(100 * share.value, " %", (100 * low, 100 * high))
    details = f"{runs.median('writing'):.2f} of {runs.median('run'):.2f} s for {IMAGES:,} images"
    yield Row(TITLE, "making it by PGD-10", figure, at_most(3, " %"), details)


def _parts(stored: AdversarialSet) -> Iterator[Part]:
    done = 0
    for images, labels in stored.batches(PART):
        indices = np.arange(done, done := done + len(labels))
        every = indices >= 0
        yield Part(0, indices, labels, labels * 1.0, every, every, ~every, images)
