"""A whole training run, described."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from robustbench_pcl.specs.base import Part, Spec, digest
from robustbench_pcl.specs.names import Scale, TrainingPrecision

Inference = Literal["softmax", "nearest"]
"""How a class is decided: the largest logit, or the nearest prototype or class mean (Eq. 7)."""
NEAREST_SHARPNESS = 16.0
"""What Eq. 7's distances are multiplied by to be logits, in units of those between prototypes:
part of every id of a model that answers so, because attacks depend on it."""


class Schedule(Spec):
    """How long and how fast to train (Section 6, "Datasets and Models").

    Attributes:
        epochs: passes over the training set.
        batch_size: images a step.
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

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)] = 256
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    milestones: tuple[int, ...] = ()
    decay: Annotated[float, Field(gt=0, le=1)] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    prototype_learning_rate: Annotated[float, Field(gt=0)] = 0.5
    gradient_clip: Annotated[float, Field(gt=0)] | None = 1.0
    precision: TrainingPrecision = "mixed"


class Recipe(Spec):
    """Everything that decides a checkpoint, apart from the pixels themselves.

    Attributes:
        name: what people call it ("ours-pgd"); not part of the id.
        scale: where its sizes come from; not part of the id.
        dataset: name in the catalogue.
        model: name in the family of models.
        width: factor on the model's channel counts (1 is the published model).
        members: networks trained together, whose mean probabilities are the prediction.
        embedding: neurons of the penultimate layer; the model's own number if None. Figures 1
            and 6 have two.
        loss: what is minimised beside cross-entropy, and its parameters.
        taps: layers whose features the loss acts on (Table 1's numbers).
        inference: how a class is decided. It changes no weights, so it is not part of the id.
        defense: the training scheme, and its parameters.
        adversarial_training: the attack whose images join each batch (Algorithm 1, lines 10-13;
            the asterisks of Tables 4-7), with its steps and budgets; None for clean batches.
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
    members: Annotated[int, Field(ge=1)] = 1
    embedding: Annotated[int, Field(ge=1)] | None = None
    loss: Part = Part(name="cross-entropy")
    taps: tuple[int, ...] = ()
    inference: Inference = "softmax"
    defense: Part = Part(name="none")
    adversarial_training: Part | None = None
    schedule: Schedule
    seed: int = 0
    train_images: Annotated[int, Field(ge=1)] | None = None
    start: Recipe | None = None

    def id(self, data_digest: str) -> str:
        """The id of the checkpoint that this recipe makes from that data."""
        return digest({"recipe": self._identity(), "data": data_digest})

    def _identity(self) -> dict[str, object]:
        content = self.content(exclude=("name", "scale", "inference", "start"))
        return {**content, "start": self.start._identity() if self.start else None}
