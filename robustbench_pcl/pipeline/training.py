"""The task of training a recipe, the checkpoint, and the features that are kept on the way."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from robustbench_pcl.data.dataset import Dataset
from robustbench_pcl.environment import current_environment
from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.paper.figures import PENULTIMATE, epochs_looked_at
from robustbench_pcl.pipeline.artefacts import Artefacts, Task
from robustbench_pcl.progress import Progress
from robustbench_pcl.recipe import AnyModel, ExternalModel, Recipe
from robustbench_pcl.store.adversarial_sets import AdversarialSet
from robustbench_pcl.store.atomic import require_writable
from robustbench_pcl.store.checkpoints import Checkpoint, save_checkpoint, weights_digest
from robustbench_pcl.store.embeddings import (
    Embedding,
    EmbeddingSpecification,
    View,
    save_embedding,
)
from robustbench_pcl.store.records import ModelRecord, TrainingRecord, now, save_training

if TYPE_CHECKING:
    from robustbench_pcl.evaluation import embed
    from robustbench_pcl.models.supervised import SupervisedModel
    from robustbench_pcl.training import build, distributed, step, trainer
else:
    embed = LazyModule("robustbench_pcl.evaluation.embed")
    build = LazyModule("robustbench_pcl.training.build")
    distributed = LazyModule("robustbench_pcl.training.distributed")
    step = LazyModule("robustbench_pcl.training.step")
    trainer = LazyModule("robustbench_pcl.training.trainer")

POINTS = 2000
"""Images shown at most; t-SNE of so many takes seconds, of all test images minutes."""
CLASSES = 10
"""Classes shown at most: no more colours can be told apart (Section 6.4)."""
SEED = 0
"""Of t-SNE and of the choice of classes."""


@dataclass(frozen=True)
class Train(Task[Checkpoint]):
    """Train a recipe."""

    kind: ClassVar[str] = "train"

    recipe: Recipe

    def __post_init__(self) -> None:
        """Settle what follows; the recipe's id decides the artefact, names do not."""
        recipe = self.recipe
        vars(self).update(
            key=f"train-{recipe.id('')}",
            title=f"train {recipe.name} on {recipe.dataset}",
            dataset=recipe.dataset,
            needs=(Train(recipe.start),) if recipe.start else (),
        )

    def find(self, artefacts: Artefacts) -> Checkpoint | None:
        """The stored checkpoint, or None."""
        return artefacts.checkpoint(self.recipe)

    def compute(self, artefacts: Artefacts) -> Checkpoint:
        """Train it; an interrupted training goes on where it was."""
        paths, device = artefacts.paths, artefacts.device
        require_writable(paths.partial)
        recipe = build.as_trained(self.recipe)
        start = artefacts.make(Train(recipe.start)) if recipe.start else None
        dataset = artefacts.dataset(recipe.dataset)
        identity = recipe.id(dataset.train.digest)
        partial = paths.partial / f"{identity}.safetensors"
        epochs = epochs_looked_at(recipe) if recipe.embedding == 2 and recipe.feature_layers else ()

        def keep_features(model: SupervisedModel, epoch: int) -> None:
            if epoch in epochs:
                view = View(layer=PENULTIMATE, epoch=epoch)
                make_embedding(artefacts, model, specification_in_training(recipe, view, dataset))

        distributed.Announcement(recipe=recipe, data=dataset.train.digest).send(device)
        run = trainer.Run(recipe, dataset, device, partial, artefacts.progress, keep_features)
        state = run.execute(build.restore(start, device) if start else None)
        arrays = build.arrays_of(state.model)
        record = TrainingRecord(
            checkpoint=identity,
            weights=weights_digest(arrays),
            recipe=recipe,
            data=dataset.record("train"),
            precision="bfloat16" if step.in_bfloat16(recipe.schedule, device) else "float32",
            seconds_per_epoch=statistics.median(entry["seconds"] for entry in state.history),
            history=state.history,
            devices=distributed.count(),
            environment=current_environment(device),
            created=now(),
        )
        # The checkpoint comes last: it says that the training is done.
        save_training(paths, record)
        checkpoint = save_checkpoint(paths.checkpoints, recipe, identity, arrays)
        partial.unlink(missing_ok=True)
        return checkpoint.standing_for(self.recipe)


def train_along(artefacts: Artefacts) -> None:
    """Train what rank 0 of several processes announces until there is no more; store nothing.

    Raises:
        UserError: the training images here are others.
    """
    device = artefacts.device
    while announced := distributed.Announcement.received(device):
        recipe = announced.recipe
        dataset = artefacts.dataset(recipe.dataset)
        if dataset.train.digest != announced.data:
            raise UserError(
                f"The training images of {recipe.dataset} differ between the machines.",
                "See where they are: pclbench data path; and what they are: pclbench data verify.",
            )
        try:
            trainer.Run(recipe, dataset, device, None, Progress()).execute()
        except distributed.LostError:
            raise
        except UserError:  # of all processes alike: rank 0 says it
            sys.exit(2)


def trainings(model: AnyModel) -> tuple[Train, ...]:
    """The training that makes a model; none makes an external one."""
    return () if isinstance(model, ExternalModel) else (Train(model),)


def stored(artefacts: Artefacts, model: AnyModel) -> Checkpoint:
    """A model's checkpoint; a recipe is trained now if need be.

    Raises:
        UserError: an external model's is not here.
    """
    checkpoint = artefacts.checkpoint(model)
    if checkpoint is None and isinstance(model, ExternalModel):
        raise UserError(
            f"The weights of {model.name} are not in {artefacts.paths.checkpoints}.",
            f"Bring it in again: pclbench attack {model.source} --weights FILE.",
        )
    return checkpoint or artefacts.make(*trainings(model))


def embedding_specification(
    model: ModelRecord, view: View, dataset: Dataset, n: int, adversarial_set: str | None
) -> EmbeddingSpecification:
    """What an embedding is made from.

    Args:
        model: whose features; with weights "" for features in the course of its training.
        view: which features of which images.
        dataset: the clean images.
        n: how many are wanted; at most ``POINTS`` are shown.
        adversarial_set: id of the adversarial set if the view has an attack, else None.
    """
    return EmbeddingSpecification(
        model=model,
        view=view,
        data=dataset.record("test"),
        adversarial_set=adversarial_set,
        classes=shown_classes(len(dataset.spec.classes)),
        n=min(n, POINTS),
        seed=SEED,
    )


def specification_in_training(
    recipe: Recipe, view: View, dataset: Dataset
) -> EmbeddingSpecification:
    """What the features in the course of a training are made from.

    However many images are attacked now: what training did not keep cannot be made later.
    """
    model = ModelRecord(checkpoint=recipe.id(dataset.train.digest), weights="", recipe=recipe)
    return embedding_specification(model, view, dataset, POINTS, None)


def shown_classes(classes: int) -> tuple[int, ...]:
    """The classes whose images are shown: all, or ten of them drawn at random, always the same."""
    if classes <= CLASSES:
        return tuple(range(classes))
    drawn = np.random.default_rng(SEED).choice(classes, CLASSES, replace=False)
    return tuple(sorted(drawn.tolist()))


def make_embedding(
    artefacts: Artefacts,
    model: SupervisedModel,
    specification: EmbeddingSpecification,
    images: AdversarialSet | None = None,
) -> Embedding:
    """Lay a model's features out in the plane, and store the points.

    Args:
        artefacts: where it is stored.
        model: in eval mode on the device.
        specification: what is wanted.
        images: the adversarial set if the specification has one.

    Raises:
        UserError: the view cannot be had of this model.
    """
    dataset = artefacts.dataset(specification.data.dataset)
    layout = embed.lay_out(model, specification, dataset, images, artefacts.device)
    environment = current_environment(artefacts.device)
    return save_embedding(artefacts.paths.embeddings, specification, layout, environment, now())
