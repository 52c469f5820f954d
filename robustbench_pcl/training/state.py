"""The state of a training run: model, optimisers and history, saved to go on to the same bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from robustbench_pcl.errors import UserError
from robustbench_pcl.models.supervised import SupervisedModel
from robustbench_pcl.recipe import Schedule
from robustbench_pcl.store.tensors import load_arrays, load_description, save_arrays
from robustbench_pcl.training.build import arrays_of, load_arrays_into


@dataclass
class RunState:
    """A run between two epochs.

    Order, augmentation and training attacks of an epoch follow from the recipe's seed and the
    epoch's number alone, so no random state needs to be kept.

    Attributes:
        model: what is trained.
        momentum: the optimiser of the classifier.
        prototypes: the optimiser of the criterion's own parameters, which has no state.
        history: one entry for each epoch that is done.
    """

    model: SupervisedModel
    momentum: torch.optim.SGD
    prototypes: torch.optim.SGD | None
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.history)

    def save(self, path: Path) -> None:
        """Write the state in one step; a run killed while writing keeps the state before."""
        arrays = {f"model.{name}": array for name, array in arrays_of(self.model).items()}
        for index, parameter in enumerate(self._parameters()):
            buffer = self.momentum.state[parameter].get("momentum_buffer")
            if buffer is not None:
                arrays[f"momentum.{index}"] = buffer.cpu().numpy()
        save_arrays(path, arrays, {"history": self.history})

    def load(self, path: Path) -> None:
        """Go back to a saved state.

        Raises:
            UserError: the file is damaged or of another model.
        """
        arrays = load_arrays(path)
        weights = {
            name.removeprefix("model."): array
            for name, array in arrays.items()
            if name.startswith("model.")
        }
        load_arrays_into(self.model, weights, path)
        for index, parameter in enumerate(self._parameters()):
            if f"momentum.{index}" in arrays:
                buffer = torch.from_numpy(arrays[f"momentum.{index}"])
                # Laid out as the parameter is: the order of sums decides the last bits.
                kept = torch.empty_like(parameter, requires_grad=False).copy_(buffer)
                self.momentum.state[parameter] = {"momentum_buffer": kept}
        history = load_description(path).get("history")
        if history is None:
            raise UserError(
                f"{path} is not the state of an interrupted training.",
                "Move it away and run the command again: the training starts anew.",
            )
        self.history = history

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [value for group in self.momentum.param_groups for value in group["params"]]


def optimisers(
    model: SupervisedModel, schedule: Schedule
) -> tuple[torch.optim.SGD, torch.optim.SGD | None]:
    """SGD with momentum for the classifier; plain SGD for prototypes, if there are any.

    Fused: a third of the time on the CPU, for the 340 small parameters of ResNet-110.
    """
    weights = [value for value in model.classifier.parameters() if value.ndim >= 2]
    others = [value for value in model.classifier.parameters() if value.ndim < 2]
    groups = [
        {"params": weights, "weight_decay": schedule.weight_decay},
        {"params": others, "weight_decay": 0.0},  # biases, slopes and batch normalisation's
    ]
    classifier = torch.optim.SGD(
        groups, lr=schedule.learning_rate, momentum=schedule.momentum, nesterov=True, fused=True
    )
    own = model.criterion.parameter_groups(schedule.prototype_learning_rate)
    return classifier, torch.optim.SGD(own, fused=True) if own else None


def learning_rate(schedule: Schedule, epoch: int) -> float:
    """The model's learning rate in an epoch, counted from 0."""
    passed = sum(milestone <= epoch for milestone in schedule.milestones)
    return schedule.learning_rate * schedule.decay**passed
