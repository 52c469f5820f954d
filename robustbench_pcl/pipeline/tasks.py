"""Tasks on adversarial images: generate, measure, embed. Each finds its artefact or makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar, cast

from pydantic import BeforeValidator, PlainSerializer

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Attack
from robustbench_pcl.configuration import Mode, digest
from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.pipeline.artefacts import A, AnyTask, Artefacts, Task
from robustbench_pcl.pipeline.stored import judge
from robustbench_pcl.pipeline.training import (
    Train,
    embedding_specification,
    make_embedding,
    specification_in_training,
    stored,
    trainings,
)
from robustbench_pcl.recipe import AnyModel, Recipe
from robustbench_pcl.recipes.presets import SIZES
from robustbench_pcl.store.adversarial_sets import (
    AdversarialSet,
    SetSpecification,
    find_set,
    has_set,
)
from robustbench_pcl.store.embeddings import (
    Embedding,
    EmbeddingSpecification,
    View,
    find_embedding,
)
from robustbench_pcl.store.records import (
    Measurement,
    find_measurement,
    has_measurement,
    save_measurement,
)
from robustbench_pcl.store.rules import measurement_id

if TYPE_CHECKING:
    from robustbench_pcl.evaluation import generate, measure
    from robustbench_pcl.models.supervised import SupervisedModel
else:
    generate = LazyModule("robustbench_pcl.evaluation.generate")
    measure = LazyModule("robustbench_pcl.evaluation.measure")

__all__ = ["Embed", "Generate", "Measure", "Train"]

PLOTTED = {"features": "features", "tsne": "t-SNE"}
"""What a view's method draws, in words."""


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

    source: AnyModel
    attack: AnyAttack
    images: int | None = None
    seed: int = 0
    mode: Mode = "fast"

    def __post_init__(self) -> None:
        """Settle what follows; source, attack, images, seed and mode decide the artefact."""
        source, attack = self.source, self.attack
        content = [*decides(source), attack.dump(), self.images, self.seed, self.mode]
        vars(self).update(
            key=f"generate-{digest(content)}",
            title=f"{attack.label} on {source.name}, {source.dataset}",
            dataset=source.dataset,
            needs=trainings(source),
        )

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
                data=artefacts.dataset(self.dataset).record("test"),
                n=count(artefacts, self.source, self.images),
                seed=self.seed,
                mode=self.mode,
            )
        return artefacts.specifications[self.key]

    def claim(self, artefacts: Artefacts) -> str:
        """By the set's id: with all test images, or as many, it is the same set."""
        stored(artefacts, self.source)
        specification = self.specification(artefacts)
        assert specification is not None  # the source is trained by now
        return f"{self.kind}-{specification.id}"

    def find(self, artefacts: Artefacts) -> AdversarialSet | None:
        """The stored set, or None."""
        identity = self._stored_id(artefacts)
        return None if identity is None else find_set(artefacts.paths.adversarial_sets, identity)

    def is_stored(self, artefacts: Artefacts) -> bool:
        """Whether there is such a set."""
        return self._stored_id(artefacts) is not None

    def _stored_id(self, artefacts: Artefacts) -> str | None:
        """The id of the stored set that answers; None if there is none."""
        for asked in (self.made("exact"), self) if self.mode == "fast" else (self,):
            specification = asked.specification(artefacts)
            if specification is None:
                return None
            if has_set(artefacts.paths.adversarial_sets, specification.id):
                return specification.id
        return None

    def compute(self, artefacts: Artefacts) -> AdversarialSet:
        """Make the images that are not stored yet."""
        return generate.generate_set(self.crafting(artefacts))

    def crafting(self, artefacts: Artefacts) -> generate.Crafting:
        """All that its images are made from; the source is trained now if need be."""
        checkpoint = stored(artefacts, self.source)
        specification = self.specification(artefacts)
        assert specification is not None  # the source is trained by now
        clean = None
        if self.mode == "early-stop":
            clean, _ = artefacts.clean_answers(checkpoint, specification.n)
        return generate.Crafting(
            artefacts.restored(checkpoint),
            self.attack,
            specification,
            artefacts.dataset(self.dataset),
            artefacts.paths.adversarial_sets,
            device=artefacts.device,
            progress=artefacts.progress,
            clean_predictions=clean,
        )

    def made(self, mode: Mode) -> Generate:
        """The same in another mode."""
        return replace(self, mode=mode)


class OnImages(Task[A]):
    """A task on a model and images.

    Attributes:
        generate: the task that makes the images; None for clean ones.
    """

    generate: Generate | None


@dataclass(frozen=True)
class Measure(OnImages[Measurement]):
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

    target: AnyModel
    source: AnyModel | None = None
    attack: AnyAttack | None = None
    images: int | None = None
    seed: int = 0
    mode: Mode = "fast"

    def __post_init__(self) -> None:
        """Settle what follows; the target and the images, or how many clean ones, decide it."""
        target, attack = self.target, self.attack
        title, generate = f"clean accuracy of {target.name}", None
        needs: tuple[AnyTask, ...] = trainings(target)
        source = (self.source or target) if attack else None
        vars(self).update(source=source)
        if attack and source:
            if self.mode == "early-stop" and not (attack.early_stop and self.white_box):
                vars(self).update(mode="fast")
            generate = Generate(source, attack, self.images, self.seed, self.mode)
            title = f"{target.name} under {attack.label} from {source.name}"
            needs = (*generate.needs, *needs, generate)
        content = [*decides(target), generate.key if generate else self.images]
        vars(self).update(
            key=f"measure-{digest(content)}",
            title=f"{title}, {target.dataset}",
            dataset=target.dataset,
            needs=needs,
            generate=generate,
        )

    @property
    def models(self) -> tuple[AnyModel, ...]:
        """All models that it asks."""
        return (self.target, self.source) if self.source else (self.target,)

    @cached_property
    def white_box(self) -> bool:
        """Whether the images are made on the model that is measured."""
        source, target = self.source, self.target
        same = source is target
        return same or (source is not None and decides(source) == decides(target))

    def find(self, artefacts: Artefacts) -> Measurement | None:
        """The stored measurement, or None: of an exact set before a fast one before an early stop.

        Where a better set is stored than any that the target was measured on, it is still to be
        measured.
        """
        identity = self._stored_id(artefacts)
        return None if identity is None else find_measurement(artefacts.paths, identity)

    def is_stored(self, artefacts: Artefacts) -> bool:
        """Whether there is such a measurement."""
        return self._stored_id(artefacts) is not None

    def _stored_id(self, artefacts: Artefacts) -> str | None:
        """The id of the stored measurement that answers; None if there is none."""
        checkpoint, paths = artefacts.checkpoint(self.target), artefacts.paths
        if checkpoint is None:
            return None
        if self.generate is None:
            n = count(artefacts, self.target, self.images)
            data = artefacts.dataset(self.dataset).test.digest
            identity = measurement_id(checkpoint.record, data=data, n=n)
            return identity if has_measurement(paths, identity) else None
        answers = [self.generate]
        if self.mode == "fast":
            answers.insert(0, self.generate.made("exact"))
            if self.white_box and self.generate.attack.early_stop:
                answers.append(self.generate.made("early-stop"))
        for asked in answers:
            specification = asked.specification(artefacts)
            if specification is None:
                return None
            identity = measurement_id(checkpoint.record, set=specification.id)
            if has_measurement(paths, identity):
                return identity
            if asked.mode != "early-stop" and has_set(paths.adversarial_sets, specification.id):
                return None
        return None

    def compute(self, artefacts: Artefacts) -> Measurement:
        """Measure it."""
        checkpoint = stored(artefacts, self.target)
        if self.generate is not None:
            return judge(artefacts, checkpoint, artefacts.make(self.generate))
        record, dataset = checkpoint.record, artefacts.dataset(self.dataset)
        n = count(artefacts, self.target, self.images)
        answers = artefacts.clean_answers(checkpoint, n)
        identity = measurement_id(record, data=dataset.test.digest, n=n)
        device = artefacts.device
        measured = measure.measure_clean(identity, answers, record, dataset, device)
        save_measurement(artefacts.paths, measured)
        return measured


@dataclass(frozen=True)
class Embed(OnImages[Embedding]):
    """Turn a recipe's features into points in the plane.

    Attributes:
        recipe: whose features.
        view: which features of which images.
        images: how many test images; the scale's own number if None.
        seed: of an attack's random starts.
        mode: how attacked images are made.
    """

    kind: ClassVar[str] = "embed"

    recipe: Recipe
    view: View
    images: int | None = None
    seed: int = 0
    mode: Mode = "fast"

    def __post_init__(self) -> None:
        """Settle what follows; the recipe, the view and the images decide the artefact."""
        recipe, view, generate = self.recipe, self.view, None
        title = f"{PLOTTED[view.method]} of layer {view.layer} of {recipe.name}"
        if view.epoch is not None:
            title += f" after epoch {view.epoch}"
        if view.attack is not None:
            attack = ATTACKS.read(view.attack)
            generate = Generate(recipe, attack, self.images, self.seed, self.mode)
            title += f" under {attack.label}"
        attacked = generate.key if generate else None
        content = [*decides(recipe), view.content(), self.images, attacked]
        vars(self).update(
            key=f"embed-{digest(content)}",
            title=f"{title}, {recipe.dataset}",
            dataset=recipe.dataset,
            needs=(Train(recipe), generate) if generate else (Train(recipe),),
            generate=generate,
        )

    def find(self, artefacts: Artefacts) -> Embedding | None:
        """The stored embedding, or None."""
        images = artefacts.find(self.generate) if self.generate else None
        specification = self._specification(artefacts, images)
        if specification is None:
            return None
        return find_embedding(artefacts.paths.embeddings, specification.id)

    def compute(self, artefacts: Artefacts) -> Embedding:
        """Make it.

        Raises:
            UserError: the view cannot be had of this recipe, or its training did not keep it.
        """
        checkpoint = artefacts.make(Train(self.recipe))
        images = artefacts.make(self.generate) if self.generate else None
        specification = self._specification(artefacts, images)
        assert specification is not None  # the recipe is trained, and attacked, by now
        if self.view.epoch is None:
            model = cast("SupervisedModel", artefacts.restored(checkpoint))
            return make_embedding(artefacts, model, specification, images)
        kept = find_embedding(artefacts.paths.embeddings, specification.id)
        if kept is None:
            raise UserError(
                f"The features of {self.recipe.name} after epoch {self.view.epoch} were not kept "
                "when it was trained.",
                f"Move {checkpoint.path} away and run the command again: training it keeps them.",
            )
        return kept

    def _specification(
        self, artefacts: Artefacts, images: AdversarialSet | None
    ) -> EmbeddingSpecification | None:
        """What it is made from; None before the recipe is trained and attacked."""
        dataset = artefacts.dataset(self.dataset)
        if self.view.epoch is not None:
            return specification_in_training(self.recipe, self.view, dataset)
        checkpoint = artefacts.checkpoint(self.recipe)
        if checkpoint is None or (self.generate and images is None):
            return None
        n = count(artefacts, self.recipe, self.images)
        identity = images.spec.id if images else None
        return embedding_specification(checkpoint.record, self.view, dataset, n, identity)


def count(artefacts: Artefacts, recipe: AnyModel, images: int | None) -> int:
    """How many test images are attacked and measured: as asked, or the scale's, if there are."""
    available = len(artefacts.dataset(recipe.dataset).test)
    return min(images or SIZES[recipe.scale].attacked_images or available, available)


def decides(recipe: AnyModel) -> list[object]:
    """What of a recipe decides the images that are attacked and the answers that are given."""
    return [recipe.id(""), recipe.scale, recipe.inference]
