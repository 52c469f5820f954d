"""How long jobs will take, from a few timed passes of the very models."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.evaluation.crafting import build_attack, resolved
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.jobs.plan import Craft, Job, Measure, Train
from robustbench_pcl.recipes.scales import at_scale
from robustbench_pcl.specs.base import Scalar
from robustbench_pcl.specs.recipe import Recipe
from robustbench_pcl.training.assemble import build_model

PROBE_IMAGES = 32
FORWARD_SHARE = 1 / 3
"""A forward pass as a share of a forward and a backward pass."""


@dataclass
class Estimator:
    """Seconds of jobs on a bench's device; each architecture is timed once.

    Attributes:
        bench: where the jobs would run.
    """

    bench: Bench
    _seconds: dict[tuple[str, float, str], float] = field(default_factory=dict)

    def seconds(self, job: Job) -> float:
        """About how long a job takes, in seconds."""
        match job:
            case Train(recipe):
                published = dataset_spec(recipe.dataset).train_images
                images = min(recipe.train_images or published, published)
                passes = recipe.schedule.epochs * images * _training_passes(recipe)
                return passes * self._per_pass(recipe)
            case Craft(source, attack):
                parameters = resolved(build_attack(at_scale(attack, source.scale))).parameters
                passes = self.bench.count(source) * _attack_passes(parameters)
                return passes * self._per_pass(source)
            case Measure(target, _, _):
                count = self.bench.count(target)
                return count * 2 * FORWARD_SHARE * self._per_pass(target)
        raise TypeError(f"no estimate for a {type(job).__name__}")

    def _per_pass(self, recipe: Recipe) -> float:
        """Seconds of a forward and backward pass of one image."""
        key = (recipe.model, recipe.width, recipe.dataset)
        if key not in self._seconds:
            self._seconds[key] = self._probe(recipe)
        return self._seconds[key]

    def _probe(self, recipe: Recipe) -> float:
        device = self.bench.device
        model = build_model(recipe).to(device).train()
        images = torch.zeros(PROBE_IMAGES, *dataset_spec(recipe.dataset).shape, device=device)
        seconds = []
        for _ in range(2):  # the first pass also pays for warming up
            began = time.perf_counter()
            model(images).sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - began)
        return min(seconds) / PROBE_IMAGES


def _training_passes(recipe: Recipe) -> float:
    """Forward and backward passes an image and epoch."""
    steps = recipe.defense.parameters.get("steps", 0)
    match recipe.defense.name:
        case "none":
            return 1
        case "min-max":
            return 1 + float(steps)
        case _:
            return 2 + float(steps)


def _attack_passes(parameters: dict[str, Scalar]) -> float:
    """Forward and backward passes an image."""
    return float(parameters["steps"]) * (1 + float(parameters.get("search_steps", 0)))
