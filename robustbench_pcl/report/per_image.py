"""What is stored of each image: one row per image, for other tools to read (docs/export.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from robustbench_pcl.attacks.base import attack_label, norm_of
from robustbench_pcl.attacks.stages import WRONG
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.checked import are_clean_images, checked_batches
from robustbench_pcl.report.model_section import FIRST_STAGE
from robustbench_pcl.report.results import CLEAN
from robustbench_pcl.report.schema import DOCUMENTS
from robustbench_pcl.store.adversarial_sets import (
    AdversarialSet,
    SetSpecification,
    Sizes,
    perturbation_sizes,
)
from robustbench_pcl.store.records import Measurement, ModelRecord

Array = np.ndarray[Any, Any]

COLUMNS = DOCUMENTS["images"].columns
"""Of CSV and JSON Lines, in this order."""
OF_ONE_IMAGE = 8
IMAGE_COLUMNS, SHARED_COLUMNS = COLUMNS[:OF_ONE_IMAGE], COLUMNS[OF_ONE_IMAGE:]
"""What differs from image to image, and what is the same for all of a set and a target."""
BATCH = 256
"""Images that are read at once."""


@dataclass(frozen=True, eq=False)
class Answered:
    """Images, and what one model answers.

    Attributes:
        dataset: of the clean images.
        images: the adversarial set; None for clean images, and where it is no longer stored.
        measurement: of the target on these images; None to take the source's answers.
        clean: the target's accuracy on the same clean images; None where it is not stored.

    Raises:
        UserError: the clean images here are not those that were attacked.
    """

    dataset: Dataset
    images: AdversarialSet | None
    measurement: Measurement | None
    clean: Measurement | None

    def __post_init__(self) -> None:
        """Check that the clean images are the same."""
        rows, digest = self.index, self.about.data.digest
        if not are_clean_images(self.dataset, digest, rows):
            raise UserError(
                f"The {self.dataset.spec.title} here is not the copy that was attacked.",
                f"Add that copy: pclbench data add {self.dataset.spec.name} FILE.",
            )

    @property
    def about(self) -> SetSpecification | Measurement:
        """What says which images, attack and models these are."""
        if self.measurement is not None:
            return self.measurement
        assert self.images is not None
        return self.images.spec

    @property
    def target(self) -> ModelRecord | None:
        """The model that answers; None for images crafted elsewhere, without a target."""
        return self.about.source if self.measurement is None else self.measurement.target

    @cached_property
    def index(self) -> Array:
        """Positions in the test split, int64 (N,)."""
        return np.arange(self.about.n) if self.images is None else self.images.columns["indices"]

    def batches(self) -> Iterator[Array]:
        """The images, float32 (B, C, H, W) in [0, 1], in the order of :attr:`index`.

        Raises:
            UserError: they are no longer stored, or not what they should be.
        """
        if self.images is not None:
            for batch, _ in checked_batches(self.images, self.dataset, BATCH):
                yield batch
            return
        if self.about.attack is not None:
            raise UserError(
                f"The adversarial images of {self.about.id} are no longer stored.",
                "Write what is known of them as .csv or .jsonl.",
            )
        for start in range(0, self.about.n, BATCH):
            clean = self.dataset.test.images[start : min(start + BATCH, self.about.n)]
            yield clean.astype(np.float32) / 255

    def frame(self) -> pd.DataFrame:
        """One row per image, :data:`COLUMNS`."""
        label = pd.Series(np.asarray(self.dataset.test.labels)[self.index], dtype="Int64")
        sizes = self._sizes()
        prediction, robust = self._answers(label)
        unchanged = prediction.where(sizes.linf == 0)
        right = pd.Series(self.clean.withstood() if self.clean else unchanged == label)
        own: dict[str, object] = {
            "index": self.index,
            "label": label,
            "clean_prediction": unchanged.mask(right.fillna(value=False), label),
            "prediction": prediction,
            "robust": robust,
            "felled_by": self._felled_by(robust, right),
            **sizes._asdict(),
        }
        shared = self._shared()
        series = {
            column.name: pd.Series(
                own.get(column.name, [shared.get(column.name)] * len(label)), dtype=column.dtype
            )
            for column in COLUMNS
        }
        return pd.DataFrame(series)

    def _sizes(self) -> Sizes:
        """The perturbations, float64 (N,); NaN where the images are gone."""
        if self.images is None:
            known = np.full(self.about.n, 0.0 if self.about.attack is None else np.nan)
            return Sizes(known, known)
        start, found = 0, []
        for batch in self.batches():
            rows = self.index[start : start + len(batch)]
            found.append(perturbation_sizes(batch, self.dataset.test.images[rows]))
            start += len(batch)
        return Sizes(*map(np.concatenate, zip(*found, strict=True)))

    def _answers(self, label: pd.Series[int]) -> tuple[pd.Series[int], pd.Series[bool]]:
        """The target's classes, and whether they are right.

        A target that the images were not made on is known to be right or wrong, no more.
        """
        if self.target is None:
            unknown = pd.Series([pd.NA] * len(label))
            return unknown.astype("Int64"), unknown.astype("boolean")
        own = self._own
        if own is not None:
            prediction = pd.Series(own.columns["predictions"], dtype="Int64")
            return prediction, prediction == label
        assert self.measurement is not None  # else the source is the target
        robust = pd.Series(self.measurement.withstood(), dtype="boolean")
        return label.where(robust), robust

    @property
    def _own(self) -> AdversarialSet | None:
        """The set, where it was made on the target."""
        source, target = self.about.source, self.target
        own = source is not None and target is not None and source.key == target.key
        return self.images if own else None

    def _felled_by(self, robust: pd.Series[bool], right: pd.Series[bool]) -> pd.Series[str]:
        """What made the target wrong, of each image."""
        attack = attack_label(self.about.attack) if self.about.attack else CLEAN
        felled = pd.Series(attack, index=robust.index, dtype="object")
        stages, numbers = self._fellings
        if len(stages) > 1:
            felled = pd.Series(numbers).map({**dict(enumerate(stages)), WRONG: CLEAN})
        felled[(~right).fillna(value=False)] = CLEAN
        felled[robust.fillna(value=False)] = ""
        felled[robust.isna()] = None
        return felled

    @property
    def _fellings(self) -> tuple[tuple[str, ...], Array]:
        """The titles of the attack's stages, and which felled each image; none if not known."""
        if self._own is not None:
            return self._own.stages, self._own.felled_by()
        if self.measurement is None or not self.measurement.felled_by:
            return (), np.empty(0)
        codes = np.frombuffer(bytes.fromhex(self.measurement.felled_by), np.uint8).astype(np.int64)
        return self.measurement.stages, np.where(codes == 1, WRONG, codes - FIRST_STAGE)

    def _shared(self) -> dict[str, object]:
        about, target = self.about, self.target
        return {
            "attack": attack_label(about.attack) if about.attack else CLEAN,
            "eps": about.attack.get("eps") if about.attack else None,
            "norm": norm_of(about.attack) if about.attack else None,
            "dataset": about.data.dataset,
            "data_digest": about.data.digest,
            "target": target and target.recipe.name,
            "model": target and target.key,
            "source": about.source and about.source.recipe.name,
            "adversarial_set": self.measurement.adversarial_set if self.measurement else about.id,
            "measurement": self.measurement and self.measurement.id,
        }
