"""Training: from a recipe to a model, epoch by epoch, resumable to the same bits."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustbench_pcl.data.batches import DeviceSplit, pixels
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.errors import UserError
from robustbench_pcl.models.supervised import SupervisedModel
from robustbench_pcl.progress import Advance, Progress
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.store.atomic import set_aside
from robustbench_pcl.training.build import build_model
from robustbench_pcl.training.distributed import together
from robustbench_pcl.training.step import (
    RunState,
    Totals,
    Update,
    learning_rate,
    optimisers,
    runaways,
)

INITIAL_FEATURES = 5000
"""Training images whose features set the prototypes at the start of the joint phase."""

AfterEpoch = Callable[[SupervisedModel, int], None]


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        recipe: what to train.
        dataset: on what.
        device: where.
        partial: file that keeps the run's state between epochs; None to keep none.
        progress: progress reporter.
        after_epoch: called with the model, in eval mode, and the number of epochs it has had:
            before the first, and after each.
        save_seconds: the state is written at the first end of an epoch this long after the last
            time.
    """

    recipe: Recipe
    dataset: Dataset
    device: torch.device
    partial: Path | None
    progress: Progress
    after_epoch: AfterEpoch | None = None
    save_seconds: float = 10.0

    def execute(self, start: SupervisedModel | None = None) -> RunState:
        """Train to the end, from the saved state if there is one.

        Args:
            start: the trained model that the recipe continues from, if it does.

        Returns:
            The final state; its model is on the device, in eval mode.

        Raises:
            UserError: the loss became infinite, or several devices cannot train it.
        """
        split = DeviceSplit(self.dataset.train, self.device, self.recipe.train_images)
        state = self._begin(split, start)
        update = Update(self.recipe)
        epochs = self.recipe.schedule.epochs
        title = f"train {self.recipe.name} on {self.recipe.dataset}"
        with (
            self.progress.task(title, epochs * len(split)) as advance,
            together(state, update, split),
        ):
            advance(state.epochs * len(split), "")
            with self._keeping(state) as save:
                while state.epochs < epochs:
                    entry = self._epoch(state, split, update, advance)
                    for words in entry["warnings"]:
                        self.progress.say(f"{title}, epoch {entry['epoch']}: {words}")
                    state.history.append(entry)
                    self._show(state.model.eval(), state.epochs)
                    if state.epochs < epochs:
                        save()
            if state.model.criterion.calibrates:
                state.model.criterion.calibrate(*features_of(state.model, split, len(split)))
        state.model.trained.fill_(1)
        return state

    def _begin(self, split: DeviceSplit, start: SupervisedModel | None) -> RunState:
        """The saved state, or one before the first epoch."""
        if self.partial and self.partial.exists():
            state = self._fresh()
            try:
                state.load(self.partial)
            except UserError as error:
                aside = set_aside(self.partial)
                self.progress.say(
                    f"{error.cause} {self.recipe.name} starts again; the file is now {aside}."
                )
            else:
                self.progress.say(f"resuming {self.recipe.name} after epoch {state.epochs}")
                return state
        state = self._fresh()
        model = state.model
        if start is not None:
            # Auxiliary branches are new; everything else continues.
            model.classifier.load_state_dict(start.classifier.state_dict(), strict=False)
        if start is not None and self.recipe.goes_on:
            model.criterion.load_state_dict(start.criterion.state_dict())
        else:
            model.criterion.initialise(*features_of(model, split, INITIAL_FEATURES))
        self._show(model, 0)
        return state

    @contextlib.contextmanager
    def _keeping(self, state: RunState) -> Iterator[Callable[[], None]]:
        """Gives what is to be called after an epoch; an interruption keeps what was done by then.

        An epoch that is interrupted is begun anew: where it was in the data is not kept.
        """
        saved, unsaved, epochs = time.monotonic(), None, state.epochs

        def save() -> None:
            nonlocal saved, unsaved, epochs
            if self.partial is None:
                return
            unsaved, epochs = state.kept(), state.epochs
            if time.monotonic() - saved > self.save_seconds:
                unsaved(self.partial)
                saved, unsaved = time.monotonic(), None

        try:
            yield save
        except KeyboardInterrupt as interrupt:
            if self.partial and unsaved:
                unsaved(self.partial)
            of = f"{epochs} of {self.recipe.schedule.epochs}"
            kept = f"is kept after epoch {of}" if epochs else "starts again with its first epoch"
            interrupt.add_note(f"{self.recipe.name} {kept}")
            raise

    def _fresh(self) -> RunState:
        """A state whose weights are those of the recipe's seed."""
        model = build_model(self.recipe, self.dataset.mean, self.dataset.std, self.device)
        identity = self.recipe.id(self.dataset.train.digest)
        return RunState(model, *optimisers(model, self.recipe.schedule), identity=identity)

    def _show(self, model: SupervisedModel, epochs: int) -> None:
        if self.after_epoch is not None:
            self.after_epoch(model, epochs)

    def _epoch(
        self, state: RunState, split: DeviceSplit, update: Update, advance: Advance
    ) -> dict[str, Any]:
        """One pass over the data; returns its history entry."""
        schedule, number = self.recipe.schedule, state.epochs
        generator = torch.Generator().manual_seed((self.recipe.seed * 1_000_003 + number) % 2**63)
        for group in state.momentum.param_groups:
            group["lr"] = learning_rate(schedule, number)
        state.model.train()
        total = Totals()
        began = time.perf_counter()
        augmentation = self.dataset.spec.augmentation
        seen = number * len(split)
        for images, labels, _ in split.epoch(schedule.batch_size, generator, augmentation):
            state.model.trained.fill_(seen / (schedule.epochs * len(split)))
            seen += len(labels)
            total.add(update(state, images, labels, generator))
            advance(len(labels), "")
            if self.device.type == "cpu":  # elsewhere a look at the loss would wait for the device
                self._refuse_infinity(total.last_loss(), number)
        entry: dict[str, Any] = {
            "epoch": number + 1,
            **total.means(),
            "seconds": time.perf_counter() - began,
        }
        self._refuse_infinity(entry["loss"], number)
        entry["warnings"] = runaways(entry, state.history)
        accuracy = 100 * entry["training_accuracy"]
        advance(0, f"loss {entry['loss']:.3f} accuracy {accuracy:.1f} %")
        return entry

    def _refuse_infinity(self, loss: float, number: int) -> None:
        if not math.isfinite(loss):
            lower = self.recipe.schedule.learning_rate / 10
            raise UserError(
                f"The loss of {self.recipe.name} became infinite in epoch {number + 1}.",
                f"Lower the learning rate: pclbench train with --learning-rate {lower:g}.",
            )


def features_of(
    model: SupervisedModel, split: DeviceSplit, count: int
) -> tuple[dict[int, Tensor], Tensor]:
    """The features that the losses act on, of the first training images.

    Args:
        model: left in eval mode.
        split: the training images.
        count: how many of them.

    Returns:
        features: {layer: (N, D)}; empty where no loss acts on any.
        labels: int64 (N,).
    """
    model.eval()
    found: list[dict[int, Tensor]] = []
    if model.criterion.losses:
        with torch.no_grad():
            for images in torch.split(split.images[:count], 256):
                found.append(model.classifier.features(pixels(images))[1])
    layers = found[0] if found else {}
    features = {layer: torch.cat([part[layer] for part in found]) for layer in layers}
    return features, split.labels[:count]
