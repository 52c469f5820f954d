"""The tasks of making adversarial images and of measuring accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BeforeValidator, PlainSerializer

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.configuration import Mode, digest
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.pipeline.artefacts import AnyTask, Artefacts, Task
from robustbench_pcl.pipeline.training import Train
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.recipes.scales import SIZES
from robustbench_pcl.store.adversarial_sets import AdversarialSet, SetSpecification, find_set
from robustbench_pcl.store.measurements import find_measurement, save_measurement
from robustbench_pcl.store.records import Measurement, ModelRecord

if TYPE_CHECKING:
    from robustbench_pcl.evaluation import generate, measure
else:
    generate = LazyModule("robustbench_pcl.evaluation.generate")
    measure = LazyModule("robustbench_pcl.evaluation.measure")


def _read_attack(value: object) -> object:
    return ATTACKS.read(value) if isinstance(value, Mapping) else value


AnyAttack = Annotated[
    Attack, BeforeValidator(_read_attack), PlainSerializer(lambda attack: attack.dump())
]
"""An attack's configuration, which is a dump in JSON."""


@dataclass(frozen=True)
class Generate(Task[AdversarialSet]):
    """Generate an adversarial set.

    Attributes:
        source: the model that is attacked.
        attack: complete.
        images: how many test images; the scale's own number if None.
        seed: of random starts.
        mode: "fast" is answered by a stored exact set, too.
    """

    kind: ClassVar[str] = "generate"

    source: Recipe
    attack: AnyAttack
    images: int | None = None
    seed: int = 0
    mode: Mode = "fast"

    @cached_property
    def key(self) -> str:
        """Source, attack, number of images, seed and mode decide it; names do not."""
        attack = self.attack.dump()
        content = [*decides(self.source), attack, self.images, self.seed, self.mode]
        return f"generate-{digest(content)}"

    @property
    def title(self) -> str:
        """Attack, source and data set."""
        return f"{self.attack.label} on {self.source.name}, {self.source.dataset}"

    @property
    def dataset(self) -> str:
        """The source's."""
        return self.source.dataset

    @property
    def needs(self) -> tuple[AnyTask, ...]:
        """The source's training."""
        return (Train(self.source),)

    def specification(self, artefacts: Artefacts) -> SetSpecification | None:
        """What the set is made from; None before the source is trained."""
        if self.key not in artefacts.specifications:
            checkpoint = artefacts.checkpoint(self.source)
            if checkpoint is None:
                return None
            artefacts.specifications[self.key] = SetSpecification(
                source=checkpoint.record,
                attack=self.attack.dump(),
                norm=self.attack.norm,
                data=artefacts.dataset(self.source.dataset).record("test"),
                n=count(artefacts, self.source, self.images),
                seed=self.seed,
                mode=self.mode,
            )
        return artefacts.specifications[self.key]

    def find(self, artefacts: Artefacts) -> AdversarialSet | None:
        """The stored set, or None."""
        for asked in (self.made("exact"), self) if self.mode == "fast" else (self,):
            specification = asked.specification(artefacts)
            if specification is None:
                return None
            found = find_set(artefacts.paths.adversarial_sets, specification.id)
            if found is not None:
                return found
        return None

    def compute(self, artefacts: Artefacts) -> AdversarialSet:
        """Make the images that are not stored yet."""
        checkpoint = artefacts.checkpoint(self.source) or artefacts.make(Train(self.source))
        specification = self.specification(artefacts)
        assert specification is not None  # the source is trained by now
        clean = None
        if self.mode == "early-stop":
            clean = artefacts.clean_predictions(checkpoint, specification.n)
        return generate.generate_set(
            artefacts.restored(checkpoint),
            self.attack,
            specification,
            artefacts.dataset(self.source.dataset),
            artefacts.paths.adversarial_sets,
            device=artefacts.device,
            progress=artefacts.progress,
            clean_predictions=clean,
        )

    def made(self, mode: Mode) -> Generate:
        """The same in another mode."""
        return replace(self, mode=mode)


@dataclass(frozen=True)
class Measure(Task[Measurement]):
    """Measure an accuracy.

    Attributes:
        target: the model that is measured.
        source: the model that the images are made on; the target itself if None.
        attack: complete; None for clean accuracy.
        images: how many test images; the scale's own number if None.
        seed: of random starts.
        mode: "fast" is answered by an exact set, too, and on the target itself by an accuracy
            where images stopped early. Only the accuracy of a model on images that were made on
            itself can be had with "early-stop", and only from an attack that knows it; otherwise
            it is "fast".
    """

    kind: ClassVar[str] = "measure"

    target: Recipe
    source: Recipe | None = None
    attack: AnyAttack | None = None
    images: int | None = None
    seed: int = 0
    mode: Mode = "fast"

    def __post_init__(self) -> None:
        """Settle source and mode."""
        if self.attack is None:
            object.__setattr__(self, "source", None)
            return
        if self.source is None:
            object.__setattr__(self, "source", self.target)
        stops = self.attack.early_stop and self.white_box
        if self.mode == "early-stop" and not stops:
            object.__setattr__(self, "mode", "fast")

    @cached_property
    def key(self) -> str:
        """The target, and the images or how many clean ones, decide it; names do not."""
        images = self.generate.key if self.generate else self.images
        return f"measure-{digest([*decides(self.target), images])}"

    @cached_property
    def white_box(self) -> bool:
        """Whether the images are made on the model that is measured."""
        same = self.source is self.target
        return same or (self.source is not None and decides(self.source) == decides(self.target))

    @cached_property
    def generate(self) -> Generate | None:
        """The task that makes the images; None for clean ones."""
        if self.attack is None or self.source is None:
            return None
        return Generate(self.source, self.attack, self.images, self.seed, self.mode)

    @property
    def title(self) -> str:
        """Target, and what it is measured on."""
        if self.attack is None or self.source is None:
            return f"clean accuracy of {self.target.name}, {self.target.dataset}"
        against = f"{self.attack.label} from {self.source.name}"
        return f"{self.target.name} under {against}, {self.target.dataset}"

    @property
    def dataset(self) -> str:
        """The target's."""
        return self.target.dataset

    @property
    def needs(self) -> tuple[AnyTask, ...]:
        """The trainings of source and target, and the adversarial set."""
        if self.generate is None:
            return (Train(self.target),)
        return (*self.generate.needs, Train(self.target), self.generate)

    def find(self, artefacts: Artefacts) -> Measurement | None:
        """The stored measurement, or None: of an exact set before a fast one before an early stop.

        Where a better set is stored than any that the target was measured on, it is still to be
        measured.
        """
        checkpoint = artefacts.checkpoint(self.target)
        if checkpoint is None:
            return None
        paths = artefacts.paths
        if self.generate is None:
            n = count(artefacts, self.target, self.images)
            data = artefacts.dataset(self.dataset).test.digest
            return find_measurement(paths, clean_id(checkpoint.record, data, n))
        answers = [self.generate]
        if self.mode == "fast":
            answers.insert(0, self.generate.made("exact"))
            if self.white_box and self.generate.attack.early_stop:
                answers.append(self.generate.made("early-stop"))
        for asked in answers:
            specification = asked.specification(artefacts)
            if specification is None:
                return None
            identity = adversarial_id(checkpoint.record, specification.id)
            found = find_measurement(paths, identity)
            if found is not None:
                return found
            if asked.mode != "early-stop" and find_set(paths.adversarial_sets, specification.id):
                return None
        return None

    def compute(self, artefacts: Artefacts) -> Measurement:
        """Measure it."""
        checkpoint = artefacts.checkpoint(self.target) or artefacts.make(Train(self.target))
        record, device = checkpoint.record, artefacts.device
        if self.generate is None:
            n, dataset = count(artefacts, self.target, self.images), artefacts.dataset(self.dataset)
            predictions = artefacts.clean_predictions(checkpoint, n)
            identity = clean_id(record, dataset.test.digest, n)
            measured = measure.measure_clean(identity, predictions, record, dataset, device)
        else:
            images = self.generate.find(artefacts) or self.generate.compute(artefacts)
            model = artefacts.restored(checkpoint)
            identity = adversarial_id(record, images.spec.id)
            measured = measure.measure_set(identity, model, record, images, device)
        save_measurement(artefacts.paths, measured)
        return measured


def clean_id(target: ModelRecord, data: str, n: int) -> str:
    """The id of a clean accuracy: the model, the digest of the clean images, and how many."""
    return digest({"target": target.key, "data": data, "n": n})


def adversarial_id(target: ModelRecord, adversarial_set: str) -> str:
    """The id of an accuracy on a stored set."""
    return digest({"target": target.key, "set": adversarial_set})


def count(artefacts: Artefacts, recipe: Recipe, images: int | None) -> int:
    """How many test images are attacked and measured: as asked, or the scale's, if there are."""
    available = len(artefacts.dataset(recipe.dataset).test)
    return min(images or SIZES[recipe.scale].attacked_images or available, available)


def decides(recipe: Recipe) -> list[object]:
    """What of a recipe decides the images that are attacked and the answers that are given."""
    return [recipe.id(""), recipe.scale, recipe.inference]
