"""What an interrupted training run needs to go on to the same bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from robustbench_pcl.errors import UserError
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.store.tensors import load_arrays, load_description, save_arrays
from robustbench_pcl.training.assemble import arrays_of, load_arrays_into


@dataclass
class RunState:
    """A run between two epochs.

    Order, augmentation and training attacks of an epoch follow from the recipe's seed and the
    epoch's number alone, so no random state needs to be kept.

    Attributes:
        model: what is trained.
        momentum: the optimiser of the classifier.
        prototypes: the optimiser of the criterion's own parameters, which has no state.
        history: one entry an epoch that is done.
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
        for index, buffer in self._buffers().items():
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

    def _buffers(self) -> dict[int, torch.Tensor]:
        state = self.momentum.state
        buffers = {
            index: state[parameter].get("momentum_buffer")
            for index, parameter in enumerate(self._parameters())
            if parameter in state
        }
        return {index: buffer for index, buffer in buffers.items() if buffer is not None}
