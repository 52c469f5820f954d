"""The task of training a recipe."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from robustbench_pcl.environment import current_environment
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.paper.figures import PENULTIMATE, epochs_looked_at
from robustbench_pcl.pipeline.artefacts import Artefacts, Task
from robustbench_pcl.pipeline.embeddings import make_embedding, specification_in_training
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.store.atomic import require_writable
from robustbench_pcl.store.checkpoints import Checkpoint, save_checkpoint
from robustbench_pcl.store.embeddings import View
from robustbench_pcl.store.measurements import save_training
from robustbench_pcl.store.paths import now
from robustbench_pcl.store.records import TrainingRecord
from robustbench_pcl.store.tensors import weights_digest

if TYPE_CHECKING:
    from robustbench_pcl.models.supervised import SupervisedModel
    from robustbench_pcl.training import build, step, trainer
else:
    build = LazyModule("robustbench_pcl.training.build")
    step = LazyModule("robustbench_pcl.training.step")
    trainer = LazyModule("robustbench_pcl.training.trainer")


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
            environment=current_environment(device),
            created=now(),
        )
        # The checkpoint comes last: it says that the training is done.
        save_training(paths, record)
        checkpoint = save_checkpoint(paths.checkpoints, recipe, identity, arrays)
        partial.unlink(missing_ok=True)
        return checkpoint.standing_for(self.recipe)
