"""What is kept beside every number: the evidence for it, as plain JSON."""

from __future__ import annotations

from typing import Any

from robustbench_pcl.specs.base import Part, Spec
from robustbench_pcl.specs.names import CraftingMode
from robustbench_pcl.specs.recipe import NEAREST_SHARPNESS, Recipe


class DataRecord(Spec):
    """Which images were used.

    Attributes:
        dataset: name in the catalogue.
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


class ModelRecord(Spec):
    """Which model was used: the checkpoint's id, the digest of its weights, how it was trained."""

    checkpoint: str
    weights: str
    recipe: Recipe

    @property
    def key(self) -> str:
        """The same for models that classify alike: the weights, and how they decide a class."""
        if self.recipe.inference == "softmax":
            return self.weights
        return f"{self.weights}-{self.recipe.inference}-{NEAREST_SHARPNESS:g}"


class Environment(Spec):
    """Where the number was made."""

    pclbench: str
    python: str
    torch: str
    platform: str
    device: str
    threads: int


class Measurement(Spec):
    """The accuracy of one model on one set of images.

    Attributes:
        id: digest of the target's key and the adversarial set, or the data and n.
        data: the clean images behind it.
        target: the model that was measured.
        source: the model the images were crafted on, or None for clean accuracy.
        attack: the attack with all its parameters, or None for clean accuracy.
        adversarial_set: id of the stored set, or None.
        crafting: how the set was made; measurements that do not say are of exact sets. "until-
            fooled" counts an image as fooled if any step fooled the target, the others if the last.
        precision: of the attack's gradients; verdicts are always float32's.
        largest_linf: largest L-infinity perturbation in the set, in pixels of [0, 1].
        mean_l2: mean L2 perturbation in the set, in pixels of [0, 1].
        n: images measured.
        correct: images classified as their label.
        correct_8bit: the same after rounding the images to 8 bits a channel; None where crafting
            was until fooled.
        interval: 95 % Wilson interval of the accuracy, as fractions.
        verdicts: one bit an image in the set's order, 1 for correct, packed, as hexadecimal.
        seconds: of crafting, on ``environment``'s device.
        forward_passes: images passed forward while crafting, the source's verdicts included.
        backward_passes: images passed backward while crafting.
        seed: of the attack's random start.
        created: ISO 8601 time, UTC.
    """

    id: str
    data: DataRecord
    target: ModelRecord
    source: ModelRecord | None = None
    attack: Part | None = None
    adversarial_set: str | None = None
    crafting: CraftingMode = "exact"
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


class TrainingRecord(Spec):
    """How a checkpoint came to be, beside the checkpoint's own header.

    Attributes:
        checkpoint: its id.
        weights: digest of its weights.
        recipe: what made it.
        data: the training images.
        precision: of convolutions and matrix products, as they were: "bfloat16" or "float32".
        seconds_per_epoch: median over the epochs.
        history: one entry an epoch: losses, training accuracy, seconds, warnings.
        environment: where.
        created: ISO 8601 time, UTC.
    """

    checkpoint: str
    weights: str
    recipe: Recipe
    data: DataRecord
    precision: str = "float32"
    seconds_per_epoch: float
    history: list[dict[str, Any]]
    environment: Environment
    created: str
