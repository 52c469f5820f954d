"""Training: from a recipe to a model, epoch by epoch, resumable to the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustbench_pcl.data.batches import DeviceSplit, pixels
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.defenses.base import Defense
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.progress import Advance, Progress
from robustbench_pcl.registry import build
from robustbench_pcl.specs.recipe import Recipe, Schedule
from robustbench_pcl.training.assemble import build_model, laid_out
from robustbench_pcl.training.state import RunState

SAVE_SECONDS = 10.0
"""A state is written at the first end of an epoch this long after the last one."""
INITIAL_FEATURES = 5000
"""Training images whose features set the prototypes at the start of the joint phase."""


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        recipe: what to train.
        dataset: on what.
        device: where.
        partial: file that keeps the run's state between epochs.
        progress: who watches.
    """

    recipe: Recipe
    dataset: Dataset
    device: torch.device
    partial: Path
    progress: Progress

    def execute(self, start: SupervisedModel | None) -> RunState:
        """Train to the end, from the saved state if there is one.

        Args:
            start: the trained model that the recipe continues from, or None.

        Returns:
            The final state; its model is in train mode on the device.

        Raises:
            UserError: the loss became infinite, or the saved state is damaged.
        """
        split = DeviceSplit(self.dataset.train, self.device, self.recipe.train_images)
        state = self._begin(split, start)
        defense: Defense = build(DEFENSES, self.recipe.defense)
        epochs, images = self.recipe.schedule.epochs, len(split)
        title = f"train {self.recipe.name} on {self.recipe.dataset}"
        with self.progress.task(title, epochs * images) as advance:
            advance(state.epochs * images, "")
            saved = time.monotonic()
            while state.epochs < epochs:
                entry = self._epoch(state, split, defense, advance)
                entry["warnings"] = warnings(entry, state.history)
                for words in entry["warnings"]:
                    self.progress.say(f"{title}, epoch {entry['epoch']}: {words}")
                state.history.append(entry)
                if time.monotonic() - saved > SAVE_SECONDS and state.epochs < epochs:
                    state.save(self.partial)
                    saved = time.monotonic()
        return state

    def _begin(self, split: DeviceSplit, start: SupervisedModel | None) -> RunState:
        model = laid_out(build_model(self.recipe, self.dataset.mean, self.dataset.std), self.device)
        state = RunState(model, *optimisers(model, self.recipe.schedule))
        if self.partial.exists():
            state.load(self.partial)
            self.progress.say(f"resuming {self.recipe.name} after epoch {state.epochs}")
            return state
        if start is not None:
            # Auxiliary branches are new; everything else continues.
            model.classifier.load_state_dict(start.classifier.state_dict(), strict=False)
        self._initialise(model, split)
        return state

    def _initialise(self, model: SupervisedModel, split: DeviceSplit) -> None:
        """Show the criterion the features that it starts from."""
        if not model.criterion.losses:
            return
        model.eval()
        found: list[dict[int, Tensor]] = []
        with torch.no_grad():
            for images in torch.split(split.images[:INITIAL_FEATURES], 256):
                found.append(model.classifier.features(pixels(images))[1])
        features = {layer: torch.cat([part[layer] for part in found]) for layer in found[0]}
        model.criterion.initialise(features, split.labels[:INITIAL_FEATURES])

    def _epoch(
        self, state: RunState, split: DeviceSplit, defense: Defense, advance: Advance
    ) -> dict[str, Any]:
        """One pass over the data; returns its history entry."""
        schedule, number = self.recipe.schedule, state.epochs
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + number)
        for group in state.momentum.param_groups:
            group["lr"] = learning_rate(schedule, number)
        state.model.train()
        total = _Totals()
        began = time.perf_counter()
        augmentation = self.dataset.spec.augmentation
        for images, labels, _ in split.epoch(schedule.batch_size, generator, augmentation):
            total.add(*self._step(state, defense, images, labels, generator))
            advance(len(labels), "")
            if self.device.type == "cpu":  # elsewhere a look at the loss would wait for the device
                self._refuse_infinity(total.last_loss(), number)
        entry = {"epoch": number + 1, **total.means(), "seconds": time.perf_counter() - began}
        self._refuse_infinity(entry["loss"], number)
        advance(
            0,
            f"loss {entry['loss']:.3f} accuracy {100 * entry['training_accuracy']:.1f} %",
        )
        return entry

    def _step(
        self,
        state: RunState,
        defense: Defense,
        images: Tensor,
        labels: Tensor,
        generator: torch.Generator,
    ) -> tuple[dict[str, Tensor], Tensor, int]:
        """One update; returns the terms, correct images and their count."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            step = defense.step(state.model, images, labels, generator)
            loss = torch.stack(list(step.terms.values())).sum()
        for optimiser in filter(None, (state.momentum, state.prototypes)):
            optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        clip = self.recipe.schedule.gradient_clip
        norm = torch.nn.utils.clip_grad_norm_(
            state.model.classifier.parameters(), math.inf if clip is None else clip
        )
        for optimiser in filter(None, (state.momentum, state.prototypes)):
            optimiser.step()
        terms = {name: value.detach() for name, value in step.terms.items()}
        return {"loss": loss.detach(), **terms, "gradient_norm": norm}, step.correct, step.count

    def _refuse_infinity(self, loss: float, number: int) -> None:
        if not math.isfinite(loss):
            lower = self.recipe.schedule.learning_rate / 10
            raise UserError(
                f"The loss of {self.recipe.name} became infinite in epoch {number + 1}.",
                f"Lower the learning rate: pclbench train with --learning-rate {lower:g}.",
            )


class _Totals:
    """Sums over an epoch, kept on the device so that no step waits for a copy."""

    def __init__(self) -> None:
        self._terms: dict[str, Tensor] = {}
        self._correct: Tensor | int = 0
        self._count = self._batches = 0
        self._last: Tensor | None = None

    def add(self, terms: dict[str, Tensor], correct: Tensor, count: int) -> None:
        for name, value in terms.items():
            self._terms[name] = self._terms.get(name, torch.zeros_like(value)) + value
        self._last = terms["loss"]
        self._correct = self._correct + correct
        self._count += count
        self._batches += 1

    def last_loss(self) -> float:
        return float(self._last) if self._last is not None else 0.0

    def means(self) -> dict[str, float]:
        means = {name: float(value) / self._batches for name, value in self._terms.items()}
        return {**means, "training_accuracy": float(self._correct) / self._count}


def optimisers(
    model: SupervisedModel, schedule: Schedule
) -> tuple[torch.optim.SGD, torch.optim.SGD | None]:
    """SGD with momentum for the classifier; plain SGD for prototypes, if there are any."""
    groups = [
        {"params": list(matrices), "weight_decay": decay}
        for matrices, decay in (
            (_parameters(model, matrices=True), schedule.weight_decay),
            (_parameters(model, matrices=False), 0.0),
        )
    ]
    classifier = torch.optim.SGD(
        groups, lr=schedule.learning_rate, momentum=schedule.momentum, nesterov=True
    )
    own = model.criterion.parameter_groups(schedule.prototype_learning_rate)
    return classifier, torch.optim.SGD(own) if own else None


def _parameters(model: SupervisedModel, *, matrices: bool) -> Iterator[torch.nn.Parameter]:
    """The classifier's weights, or its biases and batch-norm parameters, which do not decay."""
    return (value for value in model.classifier.parameters() if (value.ndim >= 2) == matrices)


def learning_rate(schedule: Schedule, epoch: int) -> float:
    """The model's learning rate in an epoch, counted from 0."""
    passed = sum(milestone <= epoch for milestone in schedule.milestones)
    return schedule.learning_rate * schedule.decay**passed


def warnings(entry: dict[str, Any], history: list[dict[str, Any]]) -> list[str]:
    """Signs in an epoch that the loss is about to run away.

    Cross-entropy that has risen far above its lowest value means that the other terms have taken
    over; a term that has grown more than tenfold since the first epoch has no bound in sight.
    """
    if not history:
        return []
    found = []
    lowest = min(past["cross_entropy"] for past in history)
    if entry["cross_entropy"] > 2 * lowest + 0.5:
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
