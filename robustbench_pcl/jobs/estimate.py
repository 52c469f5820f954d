"""How long jobs will take, from a few timed passes of the very models."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustbench_pcl.attacks.parts import build_attack, resolved
from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.evaluation.embedding import POINTS
from robustbench_pcl.jobs.bench import Bench
from robustbench_pcl.jobs.plan import Craft, Embed, Job, Measure, Train
from robustbench_pcl.recipes.scales import at_scale
from robustbench_pcl.specs.base import Part, Scalar
from robustbench_pcl.specs.recipe import Recipe, Schedule
from robustbench_pcl.training.assemble import build_model, laid_out
from robustbench_pcl.training.optimisers import optimisers
from robustbench_pcl.training.state import RunState
from robustbench_pcl.training.update import Update

PROBE_IMAGES = 32
PROBE_PASS_IMAGES = 8
NO_MATTER = {"schedule": Schedule(epochs=1), "seed": 0, "start": None, "train_images": None}
"""What of a recipe does not change the time that an image takes in training."""
NO_MATTER_UNTRAINED = {"defense": Part(name="none"), "adversarial_training": None}
"""What does not change the time of a pass either."""
FORWARD_SHARE = 1 / 3
"""A forward pass as a share of a forward and a backward pass."""
PREPARED = 0.5
"""A pass of the prepared model as a share of the plain one's: 0.3 to 0.8."""
UNTIL_FOOLED = 0.5
"""Share of its steps that an image takes until it is adversarial: 0.2 where nothing defends it, 0.8
after adversarial training."""
TSNE_SECONDS = 4e-3
"""An image, of a few hundred to a few thousand; t-SNE runs on the processor."""


@dataclass
class Estimator:
    """Seconds of jobs on a bench's device; each kind of training and of model is timed once.

    Attributes:
        bench: where the jobs would run.
    """

    bench: Bench
    _seconds: dict[str, float] = field(default_factory=dict)

    def seconds(self, job: Job) -> float:
        """About how long a job takes, in seconds."""
        match job:
            case Train(recipe):
                published = dataset_spec(recipe.dataset).train_images
                images = min(recipe.train_images or published, published)
                return recipe.schedule.epochs * images * self._per_image(recipe)
            case Craft(source, attack, until_fooled):
                parameters = resolved(build_attack(at_scale(attack, source.scale))).parameters
                passes = self.bench.count(source) * _attack_passes(parameters)
                if not self.bench.exact:
                    passes *= PREPARED * (UNTIL_FOOLED if until_fooled else 1)
                return passes * self._per_pass(source)
            case Measure(target, _, _, _):
                count = self.bench.count(target)
                return count * 2 * FORWARD_SHARE * self._per_pass(target)
            case Embed(recipe, view):
                count = min(self.bench.count(recipe), POINTS)
                drawing = TSNE_SECONDS if view.method == "tsne" else 0.0
                return count * (FORWARD_SHARE * self._per_pass(recipe) + drawing)
        raise TypeError(f"no estimate for a {type(job).__name__}")

    def _per_image(self, recipe: Recipe) -> float:
        """Seconds of a training step an image."""
        schedule = Schedule(epochs=1, precision=recipe.schedule.precision)
        kind = recipe.model_copy(update={**NO_MATTER, "schedule": schedule})
        return self._once(kind.id("step"), lambda: self._probe_step(kind))

    def _per_pass(self, recipe: Recipe) -> float:
        """Seconds of a forward and backward pass of one image."""
        kind = recipe.model_copy(update={**NO_MATTER, **NO_MATTER_UNTRAINED})
        return self._once(kind.id("pass"), lambda: self._probe_pass(recipe))

    def _once(self, key: str, probe: Callable[[], float]) -> float:
        if key not in self._seconds:
            self._seconds[key] = probe()
        return self._seconds[key]

    def _probe_step(self, recipe: Recipe) -> float:
        """A step of the very training: its defence, its adversarial images, its loss."""
        model = laid_out(build_model(recipe), self.bench.device).train()
        state = RunState(model, *optimisers(model, recipe.schedule))
        update, generator = Update(recipe), torch.Generator().manual_seed(0)
        images = self._images(recipe, generator)
        labels = torch.arange(len(images), device=images.device) % 2
        return self._timed(lambda: update(state, images, labels, generator)) / len(images)

    def _probe_pass(self, recipe: Recipe) -> float:
        """A few images: most commands that only attack are over in seconds."""
        stored = self.bench.checkpoint(recipe) is not None
        model = (
            self.bench.model(recipe) if stored else laid_out(build_model(recipe), self.bench.device)
        )
        images = self._images(recipe, torch.Generator().manual_seed(0))[:PROBE_PASS_IMAGES]
        images.requires_grad_(True)
        model.eval()

        def forward_and_backward() -> None:
            torch.autograd.grad(model(images).sum(), images)

        return self._timed(forward_and_backward) / len(images)

    def _images(self, recipe: Recipe, generator: torch.Generator) -> Tensor:
        shape = (PROBE_IMAGES, *dataset_spec(recipe.dataset).shape)
        return torch.rand(shape, generator=generator).to(self.bench.device)

    def _timed(self, work: Callable[[], object]) -> float:
        seconds = []
        for _ in range(2):  # the first time also pays for warming up
            began = time.perf_counter()
            work()
            if self.bench.device.type == "cuda":
                torch.cuda.synchronize(self.bench.device)
            seconds.append(time.perf_counter() - began)
        return min(seconds)


def _attack_passes(parameters: dict[str, Scalar]) -> float:
    """Forward and backward passes an image."""
    return float(parameters["steps"]) * (1 + float(parameters.get("search_steps", 0)))
