"""Training schemes: what a batch goes through before its loss is minimised.

A defence is a configuration: recipes are made, planned and reported without torch, so its file says
``from robustbench_pcl.lazy import torch``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from robustbench_pcl.configuration import Configuration, Scalar
from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.registry import ConfigurationFamily

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from robustbench_pcl.data.datasets import DatasetSpec
    from robustbench_pcl.models import shares, supervised
else:
    shares = LazyModule("robustbench_pcl.models.shares")
    supervised = LazyModule("robustbench_pcl.models.supervised")


class Defense(Configuration, ABC):
    """A training scheme is its parameters; it turns a batch into the terms to minimise.

    A member of the family has fields with a default and a description, and writes :meth:`step`.

    Attributes:
        citation: whose scheme it is, as in the tables' headings ("Ross and Doshi-Velez 2018 [33]").
        members: how many networks are trained together.
        makes_adversarial_images: whether it trains on adversarial images of its own.
    """

    citation: ClassVar[str] = ""
    members: ClassVar[int] = 1
    makes_adversarial_images: ClassVar[bool] = False

    @classmethod
    def settings(
        cls,
        data: DatasetSpec,  # noqa: ARG003 - for members
        attack_steps: int,  # noqa: ARG003
    ) -> dict[str, Scalar]:
        """The parameters that depend on the data set and on the compute there is.

        Args:
            data: the data set, whose budgets the defence is to withstand.
            attack_steps: gradient steps of an iterative training attack that the scale affords.
        """
        return {}

    def initialise(
        self,
        network: nn.Module,
    ) -> None:
        """Change a fresh network's weights before it is trained; by default they stay."""

    def memory(
        self,
        classes: int,  # noqa: ARG002 - for members
    ) -> nn.Module | None:
        """What is kept from step to step, stored with the weights as ``model.memory``."""
        return None

    @abstractmethod
    def step(
        self,
        model: supervised.SupervisedModel,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> supervised.Step:
        """The terms of one training step.

        Args:
            model: in train mode; left in it.
            images: float (N, C, H, W) in [0, 1], augmented.
            labels: int64 (N,).
            generator: on the CPU, for everything random.

        Raises:
            UserError: the model's loss does not go with the defence.
        """


class Standard(Defense):
    """Training on clean images."""

    name: Literal["none"] = "none"

    def step(
        self,
        model: supervised.SupervisedModel,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,  # noqa: ARG002 - nothing random
    ) -> supervised.Step:
        """The criterion's terms on the clean images."""
        return model.step(images, labels)


@dataclass(frozen=True)
class Pass:
    """What the network made of some images of a batch, which need not all count alike.

    Attributes:
        logits: (N, K) of the final layer.
        features: {layer: (N, D)} of the feature layers.
        labels: int64 (N,).
    """

    logits: Tensor
    features: dict[int, Tensor]
    labels: Tensor

    def take(self, rows: slice) -> Pass:
        """The same of some of the images."""
        features = {layer: values[rows] for layer, values in self.features.items()}
        return Pass(self.logits[rows], features, self.labels[rows])

    def terms(
        self, model: supervised.SupervisedModel, prefix: str = "", weight: float = 1.0
    ) -> dict[str, Tensor]:
        """The criterion's terms on these images alone.

        Args:
            model: whose criterion it is.
            prefix: in front of the terms' names.
            weight: on all of them.
        """
        found = model.criterion(self.logits, self.features, self.labels)
        return {prefix + name: weight * value for name, value in found.items()}

    def step(self, terms: dict[str, Tensor]) -> supervised.Step:
        """A step that minimises ``terms`` and counts how many of these images were right."""
        return step_of(terms, self.logits, self.labels)


def step_of(terms: dict[str, Tensor], logits: Tensor, labels: Tensor) -> supervised.Step:
    """A training step.

    Args:
        terms: scalars by name, whose sum is minimised.
        logits: (N, K), by which images are right or wrong.
        labels: int64 (N,).
    """
    correct = (logits.detach().argmax(dim=1) == labels).sum()
    return supervised.Step(terms, correct, len(labels))


def forward_pass(model: supervised.SupervisedModel, images: Tensor, labels: Tensor) -> Pass:
    """Pass images (N, C, H, W) with labels int64 (N,) through the network, once.

    Raises:
        UserError: the network has no final layer whose logits a defence could act on.
    """
    if not model.criterion.with_cross_entropy:
        raise UserError(
            f"A model trained with {model.criterion.name} has no final layer for this defense "
            "to act on.",
            "Take the defense with another loss, or the loss with madry or without a defense.",
        )
    logits, features = shares.in_shares(model.classifier.features, images)
    return Pass(logits, features, labels)


DEFENSES: ConfigurationFamily[Defense] = ConfigurationFamily(
    "defense",
    {
        "none": "robustbench_pcl.defenses:Standard",
        "advtrain": "robustbench_pcl.defenses.adversarial:MixedBatches",
        "madry": "robustbench_pcl.defenses.adversarial:MinMax",
        "ross": "robustbench_pcl.defenses.regularizers:InputGradient",
        "yu": "robustbench_pcl.defenses.regularizers:DecisionSurface",
        "adp": "robustbench_pcl.defenses.regularizers:EnsembleDiversity",
        "atda": "robustbench_pcl.defenses.atda:DomainAdaptation",
        "ibp": "robustbench_pcl.defenses.interval_bounds:IntervalBounds",
    },
)
