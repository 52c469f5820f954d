"""Training: from a recipe to a model, epoch by epoch, resumable to the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustbench_pcl.data.batches import DeviceSplit, pixels
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.progress import Advance, Progress
from robustbench_pcl.specs.recipe import Recipe
from robustbench_pcl.training.assemble import build_model, laid_out
from robustbench_pcl.training.optimisers import learning_rate, optimisers
from robustbench_pcl.training.runaways import runaways
from robustbench_pcl.training.state import RunState
from robustbench_pcl.training.update import Totals, Update

SAVE_SECONDS = 10.0
"""A state is written at the first end of an epoch this long after the last one."""
INITIAL_FEATURES = 5000
"""Training images whose features set the prototypes at the start of the joint phase."""

AfterEpoch = Callable[[SupervisedModel, int], None]


def nothing(_model: SupervisedModel, _epochs: int) -> None:
    """What a run does after an epoch unless it is told otherwise."""


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        recipe: what to train.
        dataset: on what.
        device: where.
        partial: file that keeps the run's state between epochs.
        progress: who watches.
        after_epoch: called with the model, in eval mode, and how many epochs it has had: before
            the first, and after each.
    """

    recipe: Recipe
    dataset: Dataset
    device: torch.device
    partial: Path
    progress: Progress
    after_epoch: AfterEpoch = field(default=nothing)

    def execute(self, start: SupervisedModel | None) -> RunState:
        """Train to the end, from the saved state if there is one.

        Args:
            start: the trained model that the recipe continues from, or None.

        Returns:
            The final state; its model is on the device.

        Raises:
            UserError: the loss became infinite, or the saved state is damaged.
        """
        split = DeviceSplit(self.dataset.train, self.device, self.recipe.train_images)
        state = self._begin(split, start)
        update = Update(self.recipe)
        epochs, images = self.recipe.schedule.epochs, len(split)
        title = f"train {self.recipe.name} on {self.recipe.dataset}"
        with self.progress.task(title, epochs * images) as advance:
            advance(state.epochs * images, "")
            saved = time.monotonic()
            while state.epochs < epochs:
                entry = self._epoch(state, split, update, advance)
                entry["warnings"] = runaways(entry, state.history)
                for words in entry["warnings"]:
                    self.progress.say(f"{title}, epoch {entry['epoch']}: {words}")
                state.history.append(entry)
                self.after_epoch(state.model.eval(), state.epochs)
                if time.monotonic() - saved > SAVE_SECONDS and state.epochs < epochs:
                    state.save(self.partial)
                    saved = time.monotonic()
            if state.model.criterion.calibrates:
                state.model.criterion.calibrate(*self._features(state.model, split, len(split)))
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
        model.criterion.initialise(*self._features(model, split, INITIAL_FEATURES))
        self.after_epoch(model, 0)
        return state

    def _features(
        self, model: SupervisedModel, split: DeviceSplit, count: int
    ) -> tuple[dict[int, Tensor], Tensor]:
        """Tapped features {layer: (N, D)} and labels (N,) of the first training images."""
        model.eval()
        found: list[dict[int, Tensor]] = []
        if model.criterion.losses:
            with torch.no_grad():
                for images in torch.split(split.images[:count], 256):
                    found.append(model.classifier.features(pixels(images))[1])
        layers = found[0] if found else {}
        features = {layer: torch.cat([part[layer] for part in found]) for layer in layers}
        return features, split.labels[:count]

    def _epoch(
        self, state: RunState, split: DeviceSplit, update: Update, advance: Advance
    ) -> dict[str, Any]:
        """One pass over the data; returns its history entry."""
        schedule, number = self.recipe.schedule, state.epochs
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + number)
        for group in state.momentum.param_groups:
            group["lr"] = learning_rate(schedule, number)
        state.model.train()
        total = Totals()
        began = time.perf_counter()
        augmentation = self.dataset.spec.augmentation
        for images, labels, _ in split.epoch(schedule.batch_size, generator, augmentation):
            total.add(update(state, images, labels, generator))
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

    def _refuse_infinity(self, loss: float, number: int) -> None:
        if not math.isfinite(loss):
            lower = self.recipe.schedule.learning_rate / 10
            raise UserError(
                f"The loss of {self.recipe.name} became infinite in epoch {number + 1}.",
                f"Lower the learning rate: pclbench train with --learning-rate {lower:g}.",
            )
