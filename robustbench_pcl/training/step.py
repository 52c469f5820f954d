"""One training step, the state of a run between two epochs, and the sums of an epoch's steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.defenses.adversarial import with_adversarial_images
from robustbench_pcl.environment import computes_bfloat16
from robustbench_pcl.models.supervised import Step, SupervisedModel
from robustbench_pcl.recipe import Recipe, Schedule
from robustbench_pcl.store.checkpoints import load_state, other_training, save_state
from robustbench_pcl.training.build import arrays_of, other_model


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
        identity: id of the checkpoint that it becomes.
    """

    model: SupervisedModel
    momentum: torch.optim.SGD
    prototypes: torch.optim.SGD | None
    history: list[dict[str, Any]] = field(default_factory=list)
    identity: str = ""

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.history)

    def save(self, path: Path) -> None:
        """Write the state in one step; a run killed while writing keeps the state before."""
        self.kept()(path)

    def kept(self) -> Callable[[Path], None]:
        """What writes the state as it is now, however the run has gone on when it is called."""
        arrays = {f"model.{name}": array for name, array in arrays_of(self.model).items()}
        for index, parameter in enumerate(self.optimised()):
            buffer = self.momentum.state[parameter].get("momentum_buffer")
            if buffer is not None:
                arrays[f"momentum.{index}"] = buffer.cpu().numpy()
        arrays = {name: array.copy() for name, array in arrays.items()}
        history = list(self.history)
        return lambda path: save_state(path, self.identity, arrays, history)

    def load(self, path: Path) -> None:
        """Go back to a saved state; where that fails, the model is no longer of use.

        Raises:
            UserError: the file is damaged, or the state of another training.
        """
        arrays, history = load_state(path, self.identity)
        weights = {
            name.removeprefix("model."): array
            for name, array in arrays.items()
            if name.startswith("model.")
        }
        try:
            self.model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights})
        except RuntimeError as error:
            raise other_model(self.model, weights, path) from error
        for index, parameter in enumerate(self.optimised()):
            if f"momentum.{index}" in arrays:
                buffer = torch.from_numpy(arrays[f"momentum.{index}"])
                if buffer.shape != parameter.shape:
                    raise other_training(path)
                # Laid out as the parameter is: the order of sums decides the last bits.
                kept = torch.empty_like(parameter, requires_grad=False).copy_(buffer)
                self.momentum.state[parameter] = {"momentum_buffer": kept}
        self.history = history

    def optimised(self) -> list[torch.nn.Parameter]:
        """The classifier's parameters, in the order of their momentum."""
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


class Update:
    """What a recipe does with a batch.

    Adversarial images join it, the defence gives the loss, and the optimisers take a step down.

    Args:
        recipe: what is trained.

    Raises:
        UserError: there is no such defence, or it has no such parameter.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._defense = DEFENSES.read(recipe.defense)
        self._adversarial = recipe.adversarial_training
        self._schedule = recipe.schedule
        clip = recipe.schedule.gradient_clip
        self._largest_norm = math.inf if clip is None else clip

    def __call__(
        self, state: RunState, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Step:
        """Take one step; returns its terms, the loss and the gradient's norm among them."""
        mixed = in_bfloat16(self._schedule, images.device)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed):
            step, loss = self.forward(state.model, images, labels, generator)
        optimisers = list(filter(None, (state.momentum, state.prototypes)))
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(
            state.model.classifier.parameters(), self._largest_norm
        )
        for optimiser in optimisers:
            optimiser.step()
        terms = {name: value.detach() for name, value in step.terms.items()}
        return Step(
            {"loss": loss.detach(), **terms, "gradient_norm": norm}, step.correct, step.count
        )

    def forward(
        self, model: SupervisedModel, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Step, Tensor]:
        """What a batch gives, and the loss, a scalar: all of a step but its gradient."""
        if self._adversarial:
            images, labels = with_adversarial_images(
                self._adversarial, model, images, labels, generator
            )
        step = self._defense.step(model, images, labels, generator)
        return step, torch.stack(list(step.terms.values())).sum()


def in_bfloat16(schedule: Schedule, device: torch.device) -> bool:
    """Whether a training's convolutions and matrix products are of bfloat16 on a device."""
    return schedule.precision == "mixed" and computes_bfloat16(device)


class Totals:
    """Sums over an epoch, kept on the device so that no step waits for a copy."""

    def __init__(self) -> None:
        self._terms: dict[str, Tensor] = {}
        self._correct: Tensor | int = 0
        self._count = self._batches = 0
        self._last: Tensor | None = None

    def add(self, step: Step) -> None:
        """Take a step into account."""
        for name, value in step.terms.items():
            self._terms[name] = self._terms.get(name, torch.zeros_like(value)) + value
        self._last = step.terms["loss"]
        self._correct = self._correct + step.correct
        self._count += step.count
        self._batches += 1

    def last_loss(self) -> float:
        """The loss of the last step; waits for the device."""
        return float(self._last) if self._last is not None else 0.0

    def means(self) -> dict[str, float]:
        """The mean of each term over the steps, and the share of images that were right."""
        means = {name: float(value) / self._batches for name, value in self._terms.items()}
        return {**means, "training_accuracy": float(self._correct) / self._count}


def runaways(entry: dict[str, Any], history: list[dict[str, Any]]) -> list[str]:
    """Signs in an epoch that the loss is about to run away.

    Cross-entropy that has risen far above its lowest value means that the other terms have taken
    over; a term that has grown more than tenfold since the first epoch has no bound in sight.
    """
    if not history:
        return []
    found = []
    lowest = min(past.get("cross_entropy", math.inf) for past in history)
    if entry.get("cross_entropy", 0.0) > 2 * lowest + 0.5:
        found.append(
            f"cross-entropy rose from {lowest:.2f} to {entry['cross_entropy']:.2f}; "
            "the other terms are taking over: lower their weight"
        )
    known = {"epoch", "seconds", "training_accuracy", "gradient_norm", "cross_entropy", "loss"}
    for name in entry.keys() - known:
        first = history[0].get(name, 0.0)
        if abs(entry[name]) > 10 * (abs(first) + 1):
            found.append(f"{name} went from {first:.2f} to {entry[name]:.2f} and may run away")
    return found
