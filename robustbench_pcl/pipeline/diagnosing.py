"""The task of diagnosing a model: does the accuracy that an attack left of it hold?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from robustbench_pcl.configuration import digest
from robustbench_pcl.environment import current_environment
from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import LazyModule, torch
from robustbench_pcl.pipeline.artefacts import Artefacts, Task
from robustbench_pcl.pipeline.tasks import AnyAttack, count, decides
from robustbench_pcl.pipeline.training import stored, trainings
from robustbench_pcl.recipe import AnyModel
from robustbench_pcl.store.checkpoints import Checkpoint
from robustbench_pcl.store.diagnoses import Diagnosis, diagnosis_id
from robustbench_pcl.store.records import find_record, now, save_record

if TYPE_CHECKING:
    from robustbench_pcl.data import batches
    from robustbench_pcl.diagnosis import diagnose
else:
    batches = LazyModule("robustbench_pcl.data.batches")
    diagnose = LazyModule("robustbench_pcl.diagnosis.diagnose")

FOUND = (
    *("verdict", "code", "sentence", "label", "norm", "eps", "n", "seed", "clean", "correct"),
    *("withstood", "interval", "checks", "competence", "seconds"),
)
"""What is stored of what was found."""
ENOUGH = 500
"""So many images tell a verdict; more are looked at where that is asked for."""


@dataclass(frozen=True)
class Diagnose(Task[Diagnosis]):
    """Diagnose a model.

    Attributes:
        target: the model that is diagnosed.
        attack: whose number is judged, complete; it has a budget.
        images: how many test images; the scale's own number, :data:`ENOUGH` at most, if None.
        seed: of random starts.
        sources: other models, whose adversarial images are tried on the target.
    """

    kind: ClassVar[str] = "diagnose"

    target: AnyModel
    attack: AnyAttack
    images: int | None = None
    seed: int = 0
    sources: tuple[AnyModel, ...] = ()

    def __post_init__(self) -> None:
        """Settle what follows; models, attack, images and seed decide the artefact.

        Raises:
            UserError: the attack has no budget, or a source classifies another data set.
        """
        target, attack = self.target, self.attack
        if "eps" not in attack.dump():
            cause = f"{attack.label} has no budget eps, within which a number could be judged."
            raise UserError(cause, "Name one that has, such as --attack pgd or --attack apgd.")
        models = (target, *self.sources)
        for source in self.sources:
            if source.dataset != target.dataset:
                cause = f"{source.name} is for {source.dataset}, {target.name} is not."
                raise UserError(cause, "Name a source of the same data set.")
        content = [
            *decides(target),
            attack.dump(),
            self.images,
            self.seed,
            *map(decides, self.sources),
        ]
        vars(self).update(
            key=f"diagnose-{digest(content)}",
            title=f"diagnosis of {target.name} under {attack.label}, {target.dataset}",
            dataset=target.dataset,
            needs=tuple(training for model in models for training in trainings(model)),
        )

    @property
    def models(self) -> tuple[AnyModel, ...]:
        """All models that it asks."""
        return (self.target, *self.sources)

    def find(self, artefacts: Artefacts) -> Diagnosis | None:
        """The stored diagnosis, or None."""
        checkpoints = [artefacts.checkpoint(model) for model in self.models]
        known = [checkpoint for checkpoint in checkpoints if checkpoint is not None]
        if len(known) < len(checkpoints):
            return None
        return find_record(artefacts.paths.diagnoses, self._id(artefacts, known), Diagnosis)

    def compute(self, artefacts: Artefacts) -> Diagnosis:
        """Make it."""
        checkpoints = [stored(artefacts, model) for model in self.models]
        target, *others = checkpoints
        dataset, n = artefacts.dataset(self.dataset), self._count(artefacts)
        images = torch.from_numpy(np.array(dataset.test.images[:n])).to(artefacts.device)
        labels = torch.from_numpy(np.array(dataset.test.labels[:n])).to(artefacts.device)
        found = diagnose.diagnose(
            artefacts.restored(target),
            batches.pixels(images),
            labels,
            attack=self.attack,
            seed=self.seed,
            sources={each.record.recipe.name: artefacts.restored(each) for each in others},
            progress=artefacts.progress,
        )
        diagnosis = Diagnosis(
            id=self._id(artefacts, checkpoints),
            target=target.record,
            data=dataset.record("test"),
            attack=self.attack.dump(),
            sources=tuple(each.record for each in others),
            **{name: getattr(found, name) for name in FOUND},
            environment=current_environment(artefacts.device),
            created=now(),
        )
        save_record(artefacts.paths.diagnoses, diagnosis.id, diagnosis)
        return diagnosis

    def _count(self, artefacts: Artefacts) -> int:
        """How many images it looks at."""
        n = count(artefacts, self.target, self.images)
        return n if self.images else min(n, ENOUGH)

    def _id(self, artefacts: Artefacts, checkpoints: list[Checkpoint]) -> str:
        """Of the artefact, by the models' checkpoints."""
        target, *sources = (checkpoint.record for checkpoint in checkpoints)
        return diagnosis_id(
            target,
            artefacts.dataset(self.dataset).test.digest,
            self.attack.dump(),
            n=self._count(artefacts),
            seed=self.seed,
            sources=sources,
        )
