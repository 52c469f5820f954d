"""The shape of a defence, and the plain one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from robustbench_pcl.data.spec import DatasetSpec
    from robustbench_pcl.losses.supervised import Step, SupervisedModel
    from robustbench_pcl.specs.base import Scalar


@dataclass(frozen=True)
class Defense(ABC):
    """A training scheme is its parameters; it turns a batch into the terms to minimise.

    A member of the family is a frozen dataclass whose fields carry ``doc`` in their metadata; it
    writes :meth:`step`.

    Attributes:
        citation: whose scheme it is, as in the tables' heads ("Ross and Doshi-Velez 2018 [33]").
        members: how many networks are trained together.
        crafts: whether it makes adversarial images itself.
    """

    citation: ClassVar[str] = ""
    members: ClassVar[int] = 1
    crafts: ClassVar[bool] = False

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

    def memory(
        self,
        classes: int,  # noqa: ARG002 - for members
    ) -> nn.Module | None:
        """What is kept from step to step, stored with the weights as ``model.memory``."""
        return None

    @abstractmethod
    def step(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """The terms of one training step.

        Args:
            model: in train mode; left in it.
            images: float (N, C, H, W) in [0, 1], augmented.
            labels: int64 (N,).
            generator: on the CPU, for everything random.

        Raises:
            UserError: the model's loss does not go with the defence.
        """


@dataclass(frozen=True)
class Standard(Defense):
    """Training on clean images."""

    def step(
        self,
        model: SupervisedModel,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,  # noqa: ARG002 - nothing random
    ) -> Step:
        """The criterion's terms on the clean images."""
        return model.step(images, labels)
