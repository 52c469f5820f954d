"""A model, described: the recipe of a training, or somebody else's code and weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from robustbench_pcl.configuration import (
    Count,
    Description,
    Dump,
    Eps,
    Positive,
    Scale,
    Seed,
    digest,
    explained,
)

Inference = Literal["softmax", "nearest"]
"""How a class is decided: the largest logit, or the nearest prototype or class mean (Eq. 7)."""
TrainingPrecision = Literal["mixed", "float32"]
"""How a training computes: "mixed" is convolutions and matrix products in bfloat16 where the device
does so natively, and all else in float32."""
NEAREST_SHARPNESS = 16.0
"""What Eq. 7's distances are multiplied by to be logits, in units of those between prototypes:
part of every id of a model that answers so, because attacks depend on it."""
TORCHVISION = "torchvision:"
"""What stands before the name of a model of torchvision's."""


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

    epochs: Annotated[Count, Field(le=1_000_000)]
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] = 256
    learning_rate: Positive = 0.1
    milestones: Annotated[tuple[int, ...], Field(max_length=1000)] = ()
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
    steps: Annotated[Count, Field(le=100_000)] = 1
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
    members: Annotated[Count, Field(le=100)] = 1
    embedding: Annotated[Count, Field(le=100_000)] | None = None
    loss: Dump = Field(default={"name": "cross-entropy"})
    feature_layers: Annotated[tuple[int, ...], Field(max_length=100)] = ()
    inference: Inference = "softmax"
    defense: Dump = Field(default={"name": "none"})
    adversarial_training: AdversarialTraining | None = None
    schedule: Schedule
    seed: Seed = 0
    train_images: Count | None = None
    start: Recipe | None = None

    def id(self, data_digest: str) -> str:
        """The id of the checkpoint that this recipe makes from that data."""
        if data_digest not in self._ids:
            self._ids[data_digest] = digest({"recipe": self.identity, "data": data_digest})
        return self._ids[data_digest]

    @cached_property
    def _ids(self) -> dict[str, str]:
        """The ids that were asked for: a plan asks again and again."""
        return {}

    @property
    def goes_on(self) -> bool:
        """Whether it has the same loss on the same layers as the recipe that it starts from.

        Then prototypes and centres go on from where they were, too: a long training can be cut
        into several, each with a checkpoint to look at.
        """
        if self.start is None:
            return False
        return (self.loss, self.feature_layers) == (self.start.loss, self.start.feature_layers)

    @cached_property
    def identity(self) -> dict[str, object]:
        """What decides the weights, as plain JSON types."""
        content = self.model_dump(mode="json", exclude={"name", "scale", "inference", "start"})
        return {**content, "start": self.start.identity if self.start else None}


def _read_channels(value: object) -> object:
    """One number, several, or text such as "0.49,0.48,0.45"."""
    if isinstance(value, str):
        return tuple(value.split(","))
    return (value,) if isinstance(value, int | float) else value


Channels = Annotated[tuple[float, ...], BeforeValidator(_read_channels)]
"""A number for each channel, or one for all; () for none."""


class Origin(Description):
    """Where an external model comes from, as a user says it.

    Attributes:
        source: "my_model.py:Net", a class or a function without arguments, or
            "torchvision:resnet18".
        weights: a file, "DEFAULT" for torchvision's own, "" for a model that loads its own.
        mean: subtracted from the pixels before the model; () for nothing.
        std: what they are divided by then.
        output: which part of what it returns is the logits; "" for all of it.
    """

    source: str
    weights: str = ""
    mean: Channels = ()
    std: Channels = ()
    output: str = ""

    @model_validator(mode="after")
    def _check_pixels(self) -> Self:
        counts = {len(self.mean), len(self.std)}
        if len(counts - {1}) > 1 or (0 in counts and len(counts) > 1):
            raise ValueError(f"mean has {len(self.mean)} numbers, std {len(self.std)}")
        if any(abs(value) > 1 for value in self.mean):
            raise ValueError(f"mean {max(self.mean):g} is not of pixels in [0, 1]: divide by 255")
        if any(value <= 0 for value in self.std):
            raise ValueError("std is not positive")
        return self


def read_origin(where: str = "The model", **given: object) -> Origin:
    """The origin with those fields.

    Args:
        where: it is said, for errors.
        given: fields; numbers may be text.

    Raises:
        UserError: a field is unknown, or a value is wrong.
    """
    try:
        return Origin.model_validate(given)
    except ValidationError as error:
        raise explained(
            error, where, "Give both, for example: --mean 0.49,0.48,0.45 --std 0.2,0.2,0.2"
        ) from error


class ExternalModel(Description):
    """A model that pclbench did not train: code that makes it, and weights.

    What can be asked of a recipe and makes sense here has the recipe's name. How it was trained is
    not known, so there is no schedule, no loss and no width.

    Attributes:
        name: what people call it ("my-net").
        scale: decides how many images are attacked; not part of the id.
        dataset: name of the data set.
        source: what makes it: "my_model.py:Net", a class or a function without arguments, or
            "torchvision:resnet18".
        folder: where that file was; not part of the id, and "" for torchvision's.
        files: that file, and those that it imports from its folder.
        code: digest of the files.
        weights: digest of the weights.
        mean: subtracted from the pixels of each channel before the model; () for nothing.
        std: what they are divided by then.
        output: which part of what it returns is the logits: an attribute or key, or an index; ""
            for all of it.
    """

    name: str
    scale: Scale
    dataset: str
    source: str
    folder: str = ""
    files: tuple[str, ...]
    code: str
    weights: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    output: str = ""

    @property
    def inference(self) -> Inference:
        """The class is that of the largest logit."""
        return "softmax"

    @property
    def feature_layers(self) -> tuple[int, ...]:
        """No loss of pclbench's acted on any layer."""
        return ()

    @property
    def seed(self) -> int:
        """Which of several trainings: the name tells that."""
        return 0

    def id(self, _data_digest: str = "") -> str:
        """The id of its checkpoint; which images it was trained on is not known."""
        return digest({"external": self.identity})

    @cached_property
    def identity(self) -> dict[str, object]:
        """What decides its answers, and its name, as plain JSON types."""
        return self.content(exclude=("scale", "folder"))


def _which(model: object) -> str:
    """Whether a description, or its JSON, is of a recipe or of an external model."""
    external = isinstance(model, ExternalModel) or (
        isinstance(model, Mapping) and "source" in model
    )
    return "external" if external else "recipe"


AnyModel = Annotated[
    Annotated[Recipe, Tag("recipe")] | Annotated[ExternalModel, Tag("external")],
    Discriminator(_which),
]
"""What can be attacked and measured: a recipe, whose checkpoint is trained where there is none, or
an external model, whose checkpoint is stored when it comes in."""
