"""One training step, the sums of an epoch's steps, and the signs of a loss that runs away."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.defenses.adversarial import with_adversarial_images
from robustbench_pcl.environment import computes_bfloat16
from robustbench_pcl.models.supervised import Step
from robustbench_pcl.recipe import Recipe, Schedule
from robustbench_pcl.training.state import RunState


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
            if self._adversarial:
                images, labels = with_adversarial_images(
                    self._adversarial, state.model, images, labels, generator
                )
            step = self._defense.step(state.model, images, labels, generator)
            loss = torch.stack(list(step.terms.values())).sum()
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
