"""About how long tasks will take: from what was stored on this kind of device, or from a table.

Nothing is run to find out, and torch is not imported.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from robustbench_pcl.configuration import digest
from robustbench_pcl.data.dataset import SplitName
from robustbench_pcl.data.datasets import DATASETS, dataset_spec
from robustbench_pcl.environment import has_accelerator, processor
from robustbench_pcl.pipeline.artefacts import AnyTask, Artefacts
from robustbench_pcl.pipeline.diagnosing import ENOUGH, Diagnose
from robustbench_pcl.pipeline.sharding import Craft
from robustbench_pcl.pipeline.tasks import Embed, Generate, Measure, Train
from robustbench_pcl.pipeline.training import POINTS
from robustbench_pcl.recipe import AnyModel, ExternalModel, Recipe
from robustbench_pcl.recipes.presets import SIZES
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.reading import load_each
from robustbench_pcl.store.records import Measurement, Record, TrainingRecord, read_record

PASS_SECONDS = {
    "conv6": (3.3e-3, 28 * 28),
    "resnet20": (1.0e-3, 32 * 32),
    "resnet110": (4.7e-3, 32 * 32),
    "resnet164": (2.5e-2, 32 * 32),
    "vgg19": (1.7e-2, 32 * 32),
}
"""Seconds of a forward and backward pass of one image on one core of an AMD EPYC in float32, at
width 1, and the pixels of the image. A busy machine takes twice as long."""
WIDTH_POWER = 1.6
"""How those seconds grow with the width: 1.4 for conv6, 1.9 for VGG-19."""
LEAST_SECONDS = 1.5e-4
"""Of such a pass, however small model and image are."""
STEP_PASSES = 1.0
"""A training step on one image in such passes: 0.8 in mixed precision, 2 for the smallest."""
DEFENSE_STEPS = {
    **{"none": 1.0, "advtrain": 1.3, "ross": 2.2, "yu": 4.6, "adp": 1.0, "atda": 2.9},
    "ibp": 4.0,
}
"""A defence's step in steps without one, for each network; "madry" depends on its own steps."""
FORWARD_SHARE = 1 / 3
"""A forward pass as a share of a forward and a backward pass."""
FAST = 0.5
"""A pass of the fast model as a share of the reference model's: 0.3 to 0.8."""
EARLY_STOP = 0.5
"""Share of its steps that an image takes until it is adversarial: 0.2 where nothing defends it, 0.8
after adversarial training."""
DIAGNOSIS_PASSES = 600
"""Of an image that withstands most of what a diagnosis tries."""
TSNE_SECONDS = 4e-3
"""For each image, of a few hundred to a few thousand; t-SNE runs on the processor."""
UNKNOWN = math.nan
"""What no number follows from."""
NEWEST = 100
"""So many records of a kind are looked at, the newest ones."""
PARAMETERS = {
    **{"conv6": 896e3, "resnet20": 495e3, "resnet110": 1.44e6, "resnet164": 2.0e6},
    "vgg19": 20.1e6,
}
"""Numbers in a checkpoint at width 1; they grow with the square of the width."""
FLOAT = 4
"""Bytes of a number in a checkpoint or a set."""
COMPRESSED = 0.6
"""Of a set, as a share of its pixels."""
RECORD = 12e3
"""Bytes of a record in JSON."""
KEPT_IN_TRAINING = 3
"""Checkpoints that the state of a training takes; it is written beside the one before."""


class Estimator:
    """Seconds of tasks on a workspace's device.

    Stored records of that kind of device come first, then the table, which is of processors. An
    accelerator's model is not asked for, so records of any serve for another.

    Args:
        artefacts: where records are, and the device's name.
    """

    def __init__(self, artefacts: Artefacts) -> None:
        self._artefacts = artefacts

    @cached_property
    def _accelerated(self) -> bool:
        """Whether an accelerator computes."""
        name = self._artefacts.device_name
        return has_accelerator() if name == "auto" else name != "cpu"

    def _newest(self, folder: Path, kind: type[Record]) -> Iterator[Record]:
        """The newest records of a folder that were made on this kind of device, oldest first."""
        files = sorted(folder.glob("[!.]*.json"), key=_written)[-NEWEST:]
        read = load_each(files, lambda path: read_record(path, kind), self._artefacts.pass_over)
        here = processor()
        for record in sorted(read, key=lambda record: record.created):
            if (record.environment.device != here) == self._accelerated:
                yield record

    @cached_property
    def _steps(self) -> dict[str, float]:
        """Seconds of a training step on one image, by the kind of training."""
        found = {}
        for training in self._newest(self._artefacts.paths.trainings, TrainingRecord):
            if training.recipe.dataset in DATASETS:  # not of a plugin that is not loaded
                images = _images(training.recipe, training.recipe.train_images, "train")
                seconds = training.seconds_per_epoch * training.devices
                found[_kind_of_training(training.recipe)] = seconds / images
        return found

    @cached_property
    def _measured(self) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds of an image in an attack, and of a forward and backward pass, by the network."""
        attacks, passes = {}, {}
        for record in self._newest(self._artefacts.paths.measurements, Measurement):
            if record.source and record.attack:
                network, exact = _network(record.source.recipe), record.mode == "exact"
                key = digest([network, record.attack, record.mode])
                attacks[key] = record.seconds / record.n
                if record.backward_passes:
                    passes[digest([network, exact])] = record.seconds / record.backward_passes
        return attacks, passes

    @cached_property
    def _diagnoses(self) -> dict[str, float]:
        """Seconds of an image in a diagnosis, by the network."""
        found = self._newest(self._artefacts.paths.diagnoses, Diagnosis)
        return {digest(_network(each.target.recipe)): each.seconds / each.n for each in found}

    def seconds(self, task: AnyTask) -> float | None:
        """About how long a task takes, in seconds; None if that is not known."""
        found = UNKNOWN
        match task:
            case Train(recipe):
                images = _images(recipe, recipe.train_images, "train")
                found = recipe.schedule.epochs * images * self._step(recipe)
            case Craft(whole, _, shards):
                seconds = self.seconds(whole)
                found = UNKNOWN if seconds is None else seconds / shards
            case Generate(source) if any(isinstance(need, Craft) for need in task.needs):
                found = _images(source, task.images) * FORWARD_SHARE * self._pass(source)
            case Generate(source):
                found = _images(source, task.images) * self._attack(task)
            case Measure(target):
                found = _images(target, task.images) * 2 * FORWARD_SHARE * self._pass(target)
            case Diagnose(target):
                images = _images(target, task.images or min(ENOUGH, _images(target, None)))
                found = images * self._diagnosis(target)
            case Embed(recipe):
                drawing = TSNE_SECONDS if task.view.method == "tsne" else 0.0
                images = min(_images(recipe, task.images), POINTS)
                found = images * (FORWARD_SHARE * self._pass(recipe) + drawing)
        return None if math.isnan(found) else found

    def bytes(self, task: AnyTask) -> float:
        """About how much disk what a task makes takes, in bytes."""
        match task:
            case Train(recipe):
                return self._weights(recipe) + RECORD
            case Generate(source):
                pixels = math.prod(dataset_spec(task.dataset).shape)
                return _images(source, task.images) * pixels * FLOAT * COMPRESSED
            case Embed(recipe):
                return min(_images(recipe, task.images), POINTS) * 4 * FLOAT + RECORD
        return RECORD

    def working_bytes(self, task: AnyTask) -> float:
        """What it takes besides while it is made: a training's state, a set's parts."""
        match task:
            case Train(recipe):
                return 2 * KEPT_IN_TRAINING * self._weights(recipe)
            case Generate():
                return self.bytes(task)
        return 0.0

    def _weights(self, recipe: Recipe) -> float:
        """Bytes of a checkpoint; of a model from outside the package, of the largest there is."""
        count = PARAMETERS.get(recipe.model, max(PARAMETERS.values()))
        return count * recipe.width**2 * recipe.members * FLOAT

    def _step(self, recipe: Recipe) -> float:
        """Seconds of a training step on one image."""
        known = self._steps.get(_kind_of_training(recipe))
        if known is not None:
            return known
        defense = recipe.defense
        steps = DEFENSE_STEPS.get(str(defense["name"]), UNKNOWN)
        if defense["name"] == "madry":
            steps = 1 + FAST * float(defense["steps"])
        if recipe.adversarial_training:  # twice the images, and what makes them
            steps += 1 + FAST * recipe.adversarial_training.steps
        return STEP_PASSES * steps * self._pass(recipe)

    def _attack(self, task: Generate) -> float:
        """Seconds that an image takes in an attack."""
        network, attack, exact = _network(task.source), task.attack.dump(), task.mode == "exact"
        known = self._measured[0].get(digest([network, attack, task.mode]))
        if known is not None:
            return known
        steps = 1 if attack["name"] == "fgsm" else float(attack.get("steps", UNKNOWN))
        passes = steps * (1 + float(attack.get("search_steps", 0)))
        if task.mode == "early-stop":
            passes *= EARLY_STOP
        one = self._measured[1].get(digest([network, exact]))
        if one is None:
            one = self._pass(task.source) * (1 if exact else FAST)
        return passes * one

    def _diagnosis(self, recipe: AnyModel) -> float:
        """Seconds that an image takes in a diagnosis."""
        known = self._diagnoses.get(digest(_network(recipe)))
        return DIAGNOSIS_PASSES * self._pass(recipe) if known is None else known

    def _pass(self, recipe: AnyModel) -> float:
        """Seconds of a forward and backward pass of one image through the model as it is."""
        known = self._measured[1].get(digest([_network(recipe), True]))
        if known is not None:
            return known
        if isinstance(recipe, ExternalModel):
            return UNKNOWN
        if self._accelerated or recipe.model not in PASS_SECONDS:
            return UNKNOWN
        seconds, pixels = PASS_SECONDS[recipe.model]
        size = math.prod(dataset_spec(recipe.dataset).shape[1:]) / pixels
        one = seconds * size * math.pow(recipe.width, WIDTH_POWER)
        return max(one, LEAST_SECONDS) * recipe.members


def _images(recipe: AnyModel, asked: int | None, split: SplitName = "test") -> int:
    """How many images of a split are used: as asked, or the scale's, if as many are published."""
    spec = dataset_spec(recipe.dataset)
    if split == "train":
        return min(asked or spec.train_images, spec.train_images)
    return min(asked or SIZES[recipe.scale].attacked_images or spec.test_images, spec.test_images)


def _kind_of_training(recipe: Recipe) -> str:
    """The same for recipes whose steps take the same time."""
    schedule = recipe.schedule
    apart = dict.fromkeys(("seed", "start", "train_images"))
    return digest(
        {**recipe.identity, **apart, "schedule": [schedule.batch_size, schedule.precision]}
    )


def _written(path: Path) -> float:
    """When a file was written; 0 if it is gone by now."""
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _network(recipe: AnyModel) -> list[object]:
    """What of a recipe decides the time of a pass; an external model's is its own."""
    if isinstance(recipe, ExternalModel):
        return [recipe.source, recipe.code, recipe.dataset]
    return [recipe.model, recipe.width, recipe.members, recipe.dataset, recipe.feature_layers]
