"""A training run, described: the first artefact, from which all others follow."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from robustbench_pcl.configuration import (
    Count,
    Description,
    Dump,
    Eps,
    Positive,
    Scale,
    Seed,
    digest,
)

Inference = Literal["softmax", "nearest"]
"""How a class is decided: the largest logit, or the nearest prototype or class mean (Eq. 7)."""
TrainingPrecision = Literal["mixed", "float32"]
"""How a training computes: "mixed" is convolutions and matrix products in bfloat16 where the device
does so natively, and all else in float32."""
NEAREST_SHARPNESS = 16.0
"""What Eq. 7's distances are multiplied by to be logits, in units of those between prototypes:
part of every id of a model that answers so, because attacks depend on it."""


class Schedule(Description):
    """How long and how fast to train (Section 6, "Datasets and Models").

    Attributes:
        epochs: passes over the training set.
        batch_size: images per step.
        learning_rate: of the model, at the start.
        milestones: epochs after which the learning rate is multiplied by ``decay``.
        decay: the factor.
        momentum: of the model's SGD.
        weight_decay: of the model's SGD, on weights of two or more dimensions.
        prototype_learning_rate: of the loss's own parameters (prototypes, centres), plain SGD.
        gradient_clip: largest L2 norm of the model's gradient; None for no limit.
        precision: of convolutions and matrix products: "mixed" is bfloat16 where the device
            computes it natively, else float32. All else is float32 in any case.
    """

    epochs: Count
    batch_size: Annotated[int, Field(ge=2)] = 256
    learning_rate: Positive = 0.1
    milestones: tuple[int, ...] = ()
    decay: Annotated[float, Field(gt=0, le=1)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    prototype_learning_rate: Positive = 0.5
    gradient_clip: Positive | None = 1.0
    precision: TrainingPrecision = "mixed"


class AdversarialTraining(Description):
    """Adversarial images that join each batch (Algorithm 1, lines 10 to 13).

    Attributes:
        attack: who makes them: fgsm, bim, mim or pgd.
        steps: gradient steps.
        relative_step_size: step size, as a share of eps.
        low: smallest budget that is drawn, pixels in [0, 1].
        high: largest budget that is drawn, pixels in [0, 1].
    """

    attack: str
    steps: Count = 1
    relative_step_size: Positive = 1.0
    low: Eps = 0.01
    high: Eps = 0.05


class Recipe(Description):
    """Everything that decides a checkpoint, apart from the pixels themselves.

    Attributes:
        name: what people call it ("ours-pgd"); not part of the id.
        scale: where its sizes come from; not part of the id.
        dataset: name of the data set.
        model: name in the family of models.
        width: factor on the model's channel counts (1 is the published model).
        members: networks trained together, whose mean probabilities are the prediction.
        embedding: neurons of the penultimate layer; the model's own number if None. Figures 1
            and 6 have two.
        loss: the configuration of what is minimised beside cross-entropy, complete.
        feature_layers: layers whose features the loss acts on (Table 1's numbers).
        inference: how a class is decided. It changes no weights, so it is not part of the id.
        defense: the configuration of the training scheme, complete.
        adversarial_training: what joins each batch (Algorithm 1, lines 10-13; the asterisks of
            Tables 4-7); None for clean batches.
        schedule: how long and how fast.
        seed: of initial weights, order, augmentation and training attacks.
        train_images: use only the first so many training images; all if None.
        start: the recipe whose checkpoint this one continues from (Algorithm 1's first T'
            epochs), or None to start from fresh weights.
    """

    name: str
    scale: Scale
    dataset: str
    model: str
    width: Annotated[float, Field(gt=0, le=1)] = 1.0
    members: Count = 1
    embedding: Count | None = None
    loss: Dump = Field(default={"name": "cross-entropy"})
    feature_layers: tuple[int, ...] = ()
    inference: Inference = "softmax"
    defense: Dump = Field(default={"name": "none"})
    adversarial_training: AdversarialTraining | None = None
    schedule: Schedule
    seed: Seed = 0
    train_images: Count | None = None
    start: Recipe | None = None

    def id(self, data_digest: str) -> str:
        """The id of the checkpoint that this recipe makes from that data."""
        return digest({"recipe": self.identity, "data": data_digest})

    @cached_property
    def identity(self) -> dict[str, object]:
        """What decides the weights, as plain JSON types."""
        content = self.model_dump(mode="json", exclude={"name", "scale", "inference", "start"})
        return {**content, "start": self.start.identity if self.start else None}
