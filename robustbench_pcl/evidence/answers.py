"""Stored verdicts held against the stored weights: a sample of images is classified again."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from robustbench_pcl.attacks.checks import spread
from robustbench_pcl.attacks.losses import logit_margin
from robustbench_pcl.attacks.passes import decided
from robustbench_pcl.certificates.network import NotSupportedError
from robustbench_pcl.certificates.radii import CHUNK, Certifier
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.checked import Array, CheckedSet
from robustbench_pcl.evaluation.measure import BATCH, NEAR, in_8_bits, judging, too_near
from robustbench_pcl.evidence.findings import Verification
from robustbench_pcl.evidence.stored import Stored
from robustbench_pcl.progress import Progress, tracked
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.store.certificates import Certificate
from robustbench_pcl.store.checkpoints import Checkpoint
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.records import Measurement, ModelRecord
from robustbench_pcl.store.rules import MARGIN_PERCENTILES
from robustbench_pcl.training import build

ROUNDING = 1e-6
"""Share of a certified radius that another processor's rounding may cost."""


class Sample(NamedTuple):
    """Which images are classified again.

    Attributes:
        share: of all images, above 0 and at most 1.
        seed: of their choice, which is another one for each file.
    """

    share: float
    seed: int

    def rows(self, name: str, n: int) -> Array:
        """Positions of the images of a file, int64 (M,), rising."""
        own = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
        random = np.random.default_rng([self.seed, own])
        return np.sort(random.choice(n, math.ceil(self.share * n), replace=False))


class Answers(NamedTuple):
    """What a model says of images.

    Attributes:
        predictions: int64 (N,), classes.
        near: boolean (N,), whose class another device may decide otherwise.
        margins: float64 (N,), the label's logit less the largest other.
        widths: float64 (N,), the range of each image's logits.
    """

    predictions: Array
    near: Array
    margins: Array
    widths: Array


class Models:
    """The models of a folder's checkpoints, restored when they are asked for.

    Nobody's code is run: external models are not restored.
    """

    def __init__(self, found: Verification, stored: Stored, device: torch.device) -> None:
        self.found, self.device = found, device
        self._files = {
            (each.record.checkpoint, each.record.weights): (name, each)
            for name, each in stored.checkpoints.items()
        }
        self._models: dict[str, nn.Module | None] = {}

    def __call__(self, record: ModelRecord) -> nn.Module | None:
        """The model, in eval mode on the device; None, with the reason said, if it is not here."""
        if record.key not in self._models:
            self._models[record.key] = self._restored(record)
        return self._models[record.key]

    def _restored(self, record: ModelRecord) -> nn.Module | None:
        name, checkpoint = self._files.get((record.checkpoint, record.weights), ("", None))
        recipe = record.recipe
        if checkpoint is None:  # said with the lineage
            return None
        if not isinstance(recipe, Recipe):
            why = "they need code of their own, which is not run"
            self.found.skip(f"What the weights of {{}} answer: {why}.", recipe.name)
            return None
        if not _fits(recipe, checkpoint):
            self.found.wrong(name, "the number of arrays", f"that of {recipe.name}", "another")
            return None
        try:
            return build.restore(replace(checkpoint, record=record), self.device)
        except UserError as error:
            self.found.wrong(name, "the file", f"the weights of {recipe.name}", error.cause)
            return None


def _fits(recipe: Recipe, checkpoint: Checkpoint) -> bool:
    """Whether the sizes that a recipe may freely choose are those of the file's arrays."""
    with safe_open(checkpoint.path, framework="numpy") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    sides = {side for shape in shapes for side in shape}
    return recipe.members <= len(shapes) and (recipe.embedding or 0) in {0, *sides}


@dataclass(frozen=True, eq=False)
class Again:
    """Classifying images again.

    Attributes:
        found: where findings go.
        models: of the folder.
        sample: which images.
        device: that computes.
    """

    found: Verification
    models: Models
    sample: Sample
    device: torch.device

    def check_set(self, checked: CheckedSet) -> None:
        """The source's classes of a set's images are those that it keeps."""
        source = checked.images.spec.source
        if source is None:
            return
        model = self.models(source)
        if model is None:
            return
        rows = self.sample.rows(checked.name, checked.images.spec.n)
        again = self._answers(model, checked.pixels(rows), checked.labels[rows])
        expected = checked.predictions[rows]
        self._note(checked.name, "predictions", rows, expected != again.predictions, again)

    def check_diagnosis(self, name: str, diagnosis: Diagnosis, dataset: Dataset) -> None:
        """As many clean images are right as the diagnosis says."""
        model = self.models(diagnosis.target)
        if model is None:
            return
        if self.sample.share < 1:
            self.found.skip("Clean accuracies in diagnoses, which take all images: --data 100%.")
            return
        pixels, labels = _clean(dataset, np.arange(diagnosis.n))
        again = self._answers(model, pixels, labels)
        self._check_count(name, "clean", diagnosis.clean, again, labels)
        self.found.skip("What attacks leave in diagnoses: pclbench diagnose makes them again.")

    def check_certificate(self, name: str, certificate: Certificate, dataset: Dataset) -> None:
        """Each image is certified within its radius, by the bounds of this version."""
        model = self.models(certificate.target)
        if model is None:
            return
        rows = self.sample.rows(name, certificate.n)
        pixels, labels = _clean(dataset, rows)
        again = self._answers(model, pixels, labels)
        no_room = np.array([certificate.fooling[row] == 0 for row in rows])
        differ = no_room != (again.predictions != labels)
        self._note(name, "wrong answers", rows, differ, again)
        radii = torch.tensor(certificate.certified, dtype=torch.float64)[rows] * (1 - ROUNDING)
        loose = []
        try:
            certifier = Certifier(model, torch.float32)
            for some in filter(len, torch.split(torch.nonzero(radii)[:, 0], CHUNK)):
                given = torch.from_numpy(pixels)[some], torch.from_numpy(labels)[some], radii[some]
                holds = certifier.certifies(*(each.to(self.device) for each in given)).cpu()
                loose += rows[some[~holds].numpy()].tolist()
        except NotSupportedError as error:
            self.found.wrong(name, "certified radii", f"0, since {error}", "larger")
            return
        self.found.checked["radii certified again"] += int((radii > 0).sum())
        self.found.compare(name, "images not certified within their radius", [], loose[:10])

    def check_clean(self, name: str, measurement: Measurement, dataset: Dataset) -> None:
        """The target's verdicts of clean images are those that were measured."""
        rows = self.sample.rows(name, measurement.n)
        again = self._check_verdicts(name, measurement, rows, *_clean(dataset, rows))
        if again is None or not measurement.margins:
            return
        if len(rows) < measurement.n:
            self.found.skip("Percentiles of margins, which take all images: --data 100%.")
            return
        margins = np.percentile(again.margins, MARGIN_PERCENTILES)
        differ = np.abs(margins - measurement.margins).max()
        same = bool(differ <= NEAR * np.median(again.widths))
        self.found.require(name, "margins", same, margins.tolist(), measurement.margins)

    def check_measured(self, name: str, measurement: Measurement, checked: CheckedSet) -> None:
        """The target's verdicts of a set's images are those that were measured.

        Where the set was made on the target, they are the set's own, which are checked there.
        """
        model = self.models(measurement.target)
        if model is None:
            return
        source, rows = measurement.source, self.sample.rows(name, measurement.n)
        pixels, labels = checked.pixels(rows), checked.labels[rows]
        if source is None or source.key != measurement.target.key:
            self._check_verdicts(name, measurement, rows, pixels, labels)
        if measurement.correct_8bit is None:
            return
        if len(rows) < measurement.n:
            self.found.skip("Counts after rounding to 8 bits: that takes all images, --data 100%.")
            return
        rounded, _ = next(in_8_bits([(torch.from_numpy(pixels), torch.from_numpy(labels))]))
        again = self._answers(model, rounded.numpy(), labels)
        self._check_count(name, "correct_8bit", measurement.correct_8bit, again, labels)

    def _check_count(
        self, name: str, what: str, stored: int, again: Answers, labels: Array
    ) -> None:
        """As many are right as is stored, but for those too near to tell."""
        count, slack = int((again.predictions == labels).sum()), int(again.near.sum())
        self.found.require(name, what, abs(stored - count) <= slack, count, stored)

    def _check_verdicts(
        self, name: str, measurement: Measurement, rows: Array, pixels: Array, labels: Array
    ) -> Answers | None:
        """What the target answers; None where it is not here."""
        model = self.models(measurement.target)
        if model is None:
            return None
        again = self._answers(model, pixels, labels)
        right = again.predictions == labels
        self._note(name, "verdicts", rows, right != measurement.withstood()[rows], again)
        return again

    def _answers(self, model: nn.Module, pixels: Array, labels: Array) -> Answers:
        """Classify images float32 (N, C, H, W) as ``measure`` does."""
        images, expected = torch.from_numpy(pixels), torch.from_numpy(labels)
        found: list[Tensor] = []
        few = images[:BATCH].to(self.device), expected[:BATCH].to(self.device)
        with judging(model, *few) as target:
            for batch in torch.split(images, BATCH):
                found.append(target.logits(batch.to(self.device)).cpu())
        self.found.checked["images classified again"] += len(images)
        logits = torch.cat(found)
        margins = -logit_margin(logits.double(), expected)
        answers = (decided(logits), too_near(logits), margins, spread(logits).double())
        return Answers(*(each.numpy() for each in answers))

    def _note(self, name: str, what: str, rows: Array, differ: Array, again: Answers) -> None:
        """Note which differ, but for those too near to tell."""
        where = rows[differ & ~again.near].tolist()
        self.found.compare(name, f"images whose {what} are not the weights'", [], where[:10])
        if count := int((differ & again.near).sum()):
            why = "two classes are too near to each other"
            self.found.skip(f"Images of which {why}: of {{}}.", f"{name} ({count})")


def _clean(dataset: Dataset, rows: Array) -> tuple[Array, Array]:
    """Clean test images, float32 (N, C, H, W) in [0, 1], and labels int64 (N,)."""
    pixels = np.asarray(dataset.test.images[rows]).astype(np.float32) / 255
    return pixels, np.asarray(dataset.test.labels)[rows]


def classify_again(
    found: Verification, stored: Stored, sample: Sample, device: torch.device, progress: Progress
) -> None:
    """Classify a sample of all images again, as far as weights and images are here and sound.

    Args:
        found: where findings go.
        stored: what was read.
        sample: which images.
        device: that computes.
        progress: the progress reporter.
    """
    again = Again(found, Models(found, stored, device), sample, device)
    sets = [each for name, each in stored.sets.items() if found.sound(name)]
    for checked in tracked(sets, "sets classified again", len(sets), progress):
        again.check_set(checked)
    measured = {name: each for name, each in stored.measurements.items() if found.sound(name)}
    title = "measurements classified again"
    for name, each in tracked(measured.items(), title, len(measured), progress):
        dataset, of = stored.dataset_of(each.data), stored.set_of(each)
        if each.attack is None and dataset is not None:
            again.check_clean(name, each, dataset)
        elif of is not None and found.sound(of.name):
            again.check_measured(name, each, of)
    for name, diagnosis in stored.diagnoses.items():
        dataset = stored.dataset_of(diagnosis.data)
        if dataset is not None and found.sound(name):
            again.check_diagnosis(name, diagnosis, dataset)
    for name, certificate in stored.certificates.items():
        dataset = stored.dataset_of(certificate.data)
        if dataset is not None and found.sound(name):
            again.check_certificate(name, certificate, dataset)
