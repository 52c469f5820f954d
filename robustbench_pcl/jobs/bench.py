"""Find or make: the four artefacts, each made at most once. This is also the Python API."""

from __future__ import annotations

import statistics
from functools import lru_cache
from pathlib import Path

import numpy as np

from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.attacks.parts import build_attack
from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.data.loading import load
from robustbench_pcl.errors import UserError
from robustbench_pcl.evaluation.crafting import Crafting, set_spec
from robustbench_pcl.evaluation.measuring import (
    adversarial_id,
    clean_id,
    clean_predictions,
    measure_adversarial,
    measure_clean,
)
from robustbench_pcl.jobs.embeddings import keeper
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.progress import Progress
from robustbench_pcl.recipes.scales import SIZES, at_scale
from robustbench_pcl.specs.base import Part
from robustbench_pcl.specs.names import CraftingMode
from robustbench_pcl.specs.recipe import Recipe
from robustbench_pcl.store.adversarial_sets import AdversarialSet, find_set
from robustbench_pcl.store.atomic import require_writable
from robustbench_pcl.store.checkpoints import (
    Checkpoint,
    find_checkpoint,
    open_checkpoint,
    save_checkpoint,
)
from robustbench_pcl.store.home import Home, now
from robustbench_pcl.store.measurements import (
    find_measurement,
    save_measurement,
    save_training,
)
from robustbench_pcl.store.records import Measurement, TrainingRecord
from robustbench_pcl.store.tensors import weights_digest
from robustbench_pcl.training.assemble import (
    arrays_of,
    as_trained,
    describe_environment,
    pick_device,
    restore,
)
from robustbench_pcl.training.loop import Run
from robustbench_pcl.training.update import in_bfloat16

MODELS_KEPT = 4


class Bench:
    """A folder of artefacts and the device that makes new ones.

    Args:
        home: folder that holds ``checkpoints/`` and ``results/``.
        device: "auto", "cpu", "cuda", "cuda:1".
        data_root: folder with torchvision-format files, or None.
        images: test images to attack and measure; the scale's own number if None.
        seed: of attacks.
        exact: adversarial sets are made without any shortcut of the engine.
        progress: who watches.
    """

    def __init__(
        self,
        home: Path = Path(),
        *,
        device: str = "auto",
        data_root: Path | None = None,
        images: int | None = None,
        seed: int = 0,
        exact: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.home = Home(home)
        self.device = pick_device(device)
        self.device_name = device
        self.data_root = data_root
        self.images = images
        self.seed = seed
        self.exact = exact
        self.progress = progress or Progress()
        self._given: dict[str, Checkpoint] = {}
        self.dataset = lru_cache(lambda name: load(name, data_root))
        self._models: dict[str, SupervisedModel] = {}
        self._clean: dict[str, np.ndarray] = {}

    def open(self, path: Path) -> Recipe:
        """Take a checkpoint from a file of the user's; its recipe then stands for it.

        Raises:
            UserError: the file is not a checkpoint of ours, or another file with the same recipe
                but other weights is open already.
        """
        checkpoint = open_checkpoint(path)
        known = self._given.setdefault(_key(checkpoint.record.recipe), checkpoint)
        if known.record.weights != checkpoint.record.weights:
            raise UserError(
                f"{path} and {known.path} hold different weights of one recipe.",
                "Name one at a time, or train one of them with another --seed.",
            )
        return checkpoint.record.recipe

    @property
    def opened(self) -> list[Path]:
        """The files that checkpoints were taken from."""
        return [checkpoint.path for checkpoint in self._given.values()]

    def checkpoint(self, recipe: Recipe) -> Checkpoint | None:
        """The stored checkpoint of a recipe, or None.

        Recipes that differ in their name or in how they decide a class share a checkpoint; its
        record then says what was asked for.
        """
        given = self._given.get(_key(recipe))
        found = given or find_checkpoint(self.home.checkpoints, self._id(recipe))
        return found.standing_for(recipe) if found else None

    def train(self, recipe: Recipe) -> Checkpoint:
        """The checkpoint of a recipe, trained now unless it is stored.

        An interrupted training goes on where it was; the recipe that this one starts from is
        trained first.
        """
        stored = self.checkpoint(recipe)
        if stored is not None:
            return stored
        require_writable(self.home.partial)
        trained = as_trained(recipe)
        start = restore(self.train(recipe.start), self.device) if recipe.start else None
        dataset: Dataset = self.dataset(recipe.dataset)
        identity = self._id(recipe)
        partial = self.home.partial / f"{identity}.safetensors"
        keep = keeper(self, trained)
        state = Run(trained, dataset, self.device, partial, self.progress, keep).execute(start)
        arrays = arrays_of(state.model)
        record = TrainingRecord(
            checkpoint=identity,
            weights=weights_digest(arrays),
            recipe=trained,
            data=dataset.record("train"),
            precision="bfloat16" if in_bfloat16(trained.schedule, self.device) else "float32",
            seconds_per_epoch=statistics.median(entry["seconds"] for entry in state.history),
            history=state.history,
            environment=describe_environment(self.device),
            created=now(),
        )
        # The checkpoint comes last: it says that the training is done.
        save_training(self.home.results, record)
        checkpoint = save_checkpoint(self.home.checkpoints, trained, identity, arrays)
        partial.unlink(missing_ok=True)
        return checkpoint.standing_for(recipe)

    def model(self, recipe: Recipe) -> SupervisedModel:
        """The trained model of a recipe, in eval mode on the device."""
        return self._restored(self.train(recipe))

    def find_adversarial_set(
        self, source: Recipe, attack: Part, *, until_fooled: bool = False
    ) -> AdversarialSet | None:
        """The stored set of an attack on a source, or None.

        Where all steps are asked for, an exact set is preferred.
        """
        checkpoint = self.checkpoint(source)
        if checkpoint is None:
            return None
        built = build_attack(at_scale(attack, source.scale))
        dataset, count = self.dataset(source.dataset), self.count(source)
        mode = self._mode(built, until_fooled)
        for stored in dict.fromkeys((mode if mode == "until-fooled" else "exact", mode)):
            spec = set_spec(checkpoint.record, built, dataset, count, self.seed, mode=stored)
            found = find_set(self.home.adversarial_sets, spec.id)
            if found is not None:
                return found
        return None

    def craft(self, source: Recipe, attack: Part, *, until_fooled: bool = False) -> AdversarialSet:
        """The adversarial set of an attack on a source, crafted now unless it is stored.

        Args:
            source: who is attacked.
            attack: by what.
            until_fooled: stop each image at the first step that fools the source, for its robust
                accuracy; where the attack has no such steps, or nothing but exact sets are made,
                it makes no difference.
        """
        stored = self.find_adversarial_set(source, attack, until_fooled=until_fooled)
        if stored is not None:
            return stored
        checkpoint = self.train(source)
        built = build_attack(at_scale(attack, source.scale))
        mode = self._mode(built, until_fooled)
        return Crafting(
            source=self._restored(checkpoint),
            record=checkpoint.record,
            attack=built,
            dataset=self.dataset(source.dataset),
            n=self.count(source),
            seed=self.seed,
            device=self.device,
            folder=self.home.adversarial_sets,
            mode=mode,
            clean_predictions=self._classes(source) if mode == "until-fooled" else None,
        ).execute(self.progress)

    def find_measurement(
        self,
        target: Recipe,
        source: Recipe | None = None,
        attack: Part | None = None,
        *,
        until_fooled: bool = False,
    ) -> Measurement | None:
        """The stored measurement, or None."""
        checkpoint = self.checkpoint(target)
        if checkpoint is None:
            return None
        if attack is None:
            identity = clean_id(checkpoint.record, self.dataset(target.dataset), self.count(target))
        else:
            images = self.find_adversarial_set(source or target, attack, until_fooled=until_fooled)
            if images is None:
                return None
            identity = adversarial_id(checkpoint.record, images.spec.id)
        return find_measurement(self.home.results, identity)

    def measure(
        self,
        target: Recipe,
        source: Recipe | None = None,
        attack: Part | None = None,
        *,
        until_fooled: bool = False,
    ) -> Measurement:
        """The accuracy of a target, measured now unless it is stored.

        Args:
            target: who is measured.
            source: on whom the images are crafted; the target itself if None.
            attack: by what; None for clean accuracy.
            until_fooled: see :meth:`craft`.
        """
        stored = self.find_measurement(target, source, attack, until_fooled=until_fooled)
        if stored is not None:
            return stored
        record = self.train(target).record
        if attack is None:
            dataset = self.dataset(target.dataset)
            measurement = measure_clean(self._classes(target), record, dataset, self.device)
        else:
            images = self.craft(source or target, attack, until_fooled=until_fooled)
            measurement = measure_adversarial(self.model(target), record, images, self.device)
        save_measurement(self.home.results, measurement)
        return measurement

    def count(self, recipe: Recipe) -> int:
        """How many test images are attacked and measured."""
        available = len(self.dataset(recipe.dataset).test)
        wanted = self.images or SIZES[recipe.scale].attacked_images or available
        return min(wanted, available)

    def _mode(self, attack: Attack, until_fooled: bool) -> CraftingMode:
        if self.exact:
            return "exact"
        return "until-fooled" if until_fooled and attack.retires else "fast"

    def _classes(self, recipe: Recipe) -> np.ndarray:
        """The model's classes of the clean images; several attacks in a row ask for them."""
        key = f"{self.train(recipe).record.key}-{self.count(recipe)}"
        if key not in self._clean:
            model, dataset = self.model(recipe), self.dataset(recipe.dataset)
            self._clean[key] = clean_predictions(model, dataset, self.count(recipe), self.device)
        return self._clean[key]

    def _id(self, recipe: Recipe) -> str:
        return recipe.id(self.dataset(recipe.dataset).train.digest)

    def _restored(self, checkpoint: Checkpoint) -> SupervisedModel:
        """The checkpoint's model, kept for the next job; at most a few at a time."""
        key = checkpoint.record.key
        if key not in self._models:
            while len(self._models) >= MODELS_KEPT:
                self._models.pop(next(iter(self._models)))
            self._models[key] = restore(checkpoint, self.device)
        return self._models[key]


def _key(recipe: Recipe) -> str:
    return recipe.id("")
