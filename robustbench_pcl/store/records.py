"""What is kept beside every number: the evidence for it, as plain JSON."""

from __future__ import annotations

from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from robustbench_pcl.configuration import Description, Dump, Mode
from robustbench_pcl.environment import Environment
from robustbench_pcl.errors import UserError
from robustbench_pcl.recipe import NEAREST_SHARPNESS, Recipe

FORMAT: Literal[2] = 2
"""Of everything that is stored. Artefacts that name no format are those of pclbench 0.1."""


class DataRecord(Description):
    """Which images were used.

    Attributes:
        dataset: name of the data set.
        digest: of the split's pixels and labels.
        source: where the images came from, in words.
        lossy: the pixels are not the published ones (for instance JPEG copies).
        subset: fewer images than the published set has.
        note: what a reader of the number has to know, or "".
    """

    dataset: str
    digest: str
    source: str
    lossy: bool = False
    subset: bool = False
    note: str = ""


class ModelRecord(Description):
    """Which model was used.

    The same recipe may have been trained to different weights (with another number of threads, or
    on another device), so the checkpoint's id alone does not name a model.

    Attributes:
        checkpoint: id of the checkpoint, which follows from the recipe and the training images.
        weights: digest of its weights.
        recipe: how it was trained, and how it decides a class.
    """

    checkpoint: str
    weights: str
    recipe: Recipe

    @cached_property
    def key(self) -> str:
        """The same for models that classify alike: the weights, and how they decide a class."""
        if self.recipe.inference == "softmax":
            return self.weights
        return f"{self.weights}-{self.recipe.inference}-{NEAREST_SHARPNESS:g}"


class Measurement(Description):
    """The accuracy of one model on one set of images.

    Attributes:
        format: of the file.
        id: digest of the target's key and the adversarial set, or the data and n.
        data: the clean images behind it.
        target: the model that was measured.
        source: the model the adversarial images were made on, or None for clean accuracy.
        attack: the complete configuration of the attack, or None for clean accuracy.
        adversarial_set: id of the stored set, or None.
        mode: how the set was made. "early-stop" counts an image as fooled if any step fooled the
            target, the others if the last one did.
        precision: of the attack's gradients; classes are always float32's.
        largest_linf: largest L-infinity perturbation in the set, in pixels of [0, 1].
        mean_l2: mean L2 perturbation in the set, in pixels of [0, 1].
        n: images measured.
        correct: images classified as their label.
        correct_8bit: the same after rounding the images to 8 bits per channel; None for
            "early-stop".
        interval: 95 % Wilson interval of the accuracy, as fractions.
        verdicts: one bit per image in the set's order, 1 for correct, packed, as hexadecimal.
        seconds: that the attack took, on ``environment``'s device.
        forward_passes: images passed forward by the attack, the source's classes included.
        backward_passes: images passed backward by the attack.
        seed: of the attack's random start.
        environment: where it was measured.
        created: ISO 8601 time, UTC.
    """

    format: Literal[2] = FORMAT
    id: str
    data: DataRecord
    target: ModelRecord
    source: ModelRecord | None = None
    attack: Dump | None = None
    adversarial_set: str | None = None
    mode: Mode = "exact"
    precision: str = "float32"
    largest_linf: float = 0.0
    mean_l2: float = 0.0
    n: int
    correct: int
    correct_8bit: int | None = None
    interval: tuple[float, float]
    verdicts: str
    seconds: float
    forward_passes: int
    backward_passes: int
    seed: int
    environment: Environment
    created: str

    @property
    def accuracy(self) -> float:
        """Fraction of images classified as their label."""
        return self.correct / self.n


class TrainingRecord(Description):
    """How a checkpoint came to be, beside the checkpoint's own header.

    Attributes:
        format: of the file.
        checkpoint: its id.
        weights: digest of its weights.
        recipe: what made it.
        data: the training images.
        precision: of convolutions and matrix products, as they were: "bfloat16" or "float32".
        seconds_per_epoch: median over the epochs.
        history: one entry per epoch: losses, training accuracy, seconds, warnings.
        environment: where it was trained.
        created: ISO 8601 time, UTC.
    """

    format: Literal[2] = FORMAT
    checkpoint: str
    weights: str
    recipe: Recipe
    data: DataRecord
    precision: str = "float32"
    seconds_per_epoch: float
    history: list[dict[str, Any]]
    environment: Environment
    created: str


def refuse_other_format(place: Path, found: object) -> None:
    """Check the format that a file or folder of artefacts says it has.

    Args:
        place: the file or folder, for the error.
        found: the format; None where none is named.

    Raises:
        UserError: it is not the one that this version reads and writes.
    """
    if found == FORMAT:
        return
    older = found is None or (isinstance(found, Integral) and found < FORMAT)
    maker = "pclbench 0.1" if older else "a newer pclbench"
    raise UserError(
        f"{place} has format {1 if found is None else found}, made by {maker}; this one reads "
        f"format {FORMAT}.",
        f"Nothing of it is changed: name another folder with --home NEW, or use {maker} for it.",
    )
