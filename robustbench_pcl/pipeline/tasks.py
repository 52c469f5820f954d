"""The kinds of tasks: train, generate, measure, embed. Each finds its artefact or makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.configuration import Mode, digest
from robustbench_pcl.errors import UserError
from robustbench_pcl.pipeline.artefacts import AnyTask, Artefacts, Task
from robustbench_pcl.pipeline.measuring import Generate, Measure, OnImages, count, decides
from robustbench_pcl.pipeline.training import (
    Train,
    embedding_specification,
    make_embedding,
    specification_in_training,
)
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.store.adversarial_sets import AdversarialSet
from robustbench_pcl.store.embeddings import (
    Embedding,
    EmbeddingSpecification,
    View,
    find_embedding,
)

__all__ = ["KINDS", "Embed", "Generate", "Measure", "Task", "Train"]

PLOTTED = {"features": "features", "tsne": "t-SNE"}
"""What a view's method draws, in words."""


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
            model = artefacts.restored(checkpoint)
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


KINDS: dict[str, type[AnyTask]] = {kind.kind: kind for kind in (Train, Generate, Measure, Embed)}
"""The kinds of tasks by name, in the order in which they run."""
