"""The task of certifying a model: how far each image may be changed, and how far at least may not.

What is certified is a lower end of each true radius, the smallest perturbation that fools an upper.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from robustbench_pcl.configuration import digest
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.environment import current_environment
from robustbench_pcl.lazy import LazyModule, torch
from robustbench_pcl.pipeline.artefacts import Artefacts, Task
from robustbench_pcl.pipeline.stored import smallest_fooling
from robustbench_pcl.pipeline.tasks import count, decides
from robustbench_pcl.pipeline.training import stored, trainings
from robustbench_pcl.recipe import AnyModel
from robustbench_pcl.store.certificates import METHOD, Certificate, certificate_id
from robustbench_pcl.store.records import ModelRecord, find_record, now, save_record

if TYPE_CHECKING:
    from robustbench_pcl.certificates import radii
    from robustbench_pcl.data import batches
    from robustbench_pcl.evaluation import fooling
else:
    batches = LazyModule("robustbench_pcl.data.batches")
    fooling = LazyModule("robustbench_pcl.evaluation.fooling")
    radii = LazyModule("robustbench_pcl.certificates.radii")

ENOUGH = 200
"""So many images show how wide the band is; more are looked at where that is asked for."""
REACH = 2.0
"""The largest radius, in budgets. Radii are found by halving, so that the budget itself is tried,
and no image that is certified within it is lost to rounding."""
CHUNK = 128
"""Images that are looked at together."""


@dataclass(frozen=True)
class Certify(Task[Certificate]):
    """Certify a model.

    Attributes:
        target: the model.
        images: how many test images; the scale's own number, :data:`ENOUGH` at most, if None.
        largest_eps: no radius beyond it is looked for; twice the data set's budget if None.
    """

    kind: ClassVar[str] = "certify"

    target: AnyModel
    images: int | None = None
    largest_eps: float | None = None

    def __post_init__(self) -> None:
        """Settle what follows; the model, the images and the largest radius decide the artefact."""
        target = self.target
        largest = self.largest_eps or min(REACH * dataset_spec(target.dataset).eps, 1.0)
        content = [*decides(target), self.images, largest]
        vars(self).update(
            key=f"certify-{digest(content)}",
            title=f"certificate of {target.name} up to eps {largest:g}, {target.dataset}",
            dataset=target.dataset,
            needs=trainings(target),
            largest_eps=largest,
        )

    @property
    def models(self) -> tuple[AnyModel, ...]:
        """All models that it asks."""
        return (self.target,)

    def find(self, artefacts: Artefacts) -> Certificate | None:
        """The stored certificate, or None."""
        checkpoint = artefacts.checkpoint(self.target)
        if checkpoint is None:
            return None
        identity = self._id(artefacts, checkpoint.record)
        return find_record(artefacts.paths.certificates, identity, Certificate)

    def compute(self, artefacts: Artefacts) -> Certificate:
        """Make it."""
        start = time.perf_counter()
        checkpoint, largest = stored(artefacts, self.target), self.largest_eps or 0.0
        dataset, n = artefacts.dataset(self.dataset), self._count(artefacts)
        model = artefacts.restored(checkpoint)
        images = torch.from_numpy(np.array(dataset.test.images[:n])).to(artefacts.device)
        labels = torch.from_numpy(np.array(dataset.test.labels[:n])).to(artefacts.device)
        pixels, found = batches.pixels(images), []
        with artefacts.progress.task(self.title, 2 * n) as advance:
            lower = radii.certified_radii(model, pixels, labels, largest, progress=advance)
            for first in range(0, n, CHUNK):  # each has its own random starts, whatever n is
                rows = slice(first, first + CHUNK)
                some = pixels[rows], labels[rows]
                found.append(fooling.fooling_radii(model, *some, largest, seed=first).cpu().numpy())
                advance(len(labels[rows]), "")
        sizes, sets = smallest_fooling(artefacts, checkpoint, n)
        upper = np.fmin(np.concatenate(found), sizes)
        certificate = Certificate(
            id=self._id(artefacts, checkpoint.record),
            target=checkpoint.record,
            data=dataset.record("test"),
            method=METHOD,
            largest_eps=largest,
            n=n,
            certified=tuple(lower.certified.tolist()),
            fooling=tuple(None if np.isnan(size) else float(size) for size in upper),
            found_by=f"{fooling.FOUND_BY}; {sets} stored sets",
            reason=lower.reason,
            seconds=time.perf_counter() - start,
            environment=current_environment(artefacts.device),
            created=now(),
        )
        save_record(artefacts.paths.certificates, certificate.id, certificate)
        return certificate

    def _count(self, artefacts: Artefacts) -> int:
        """How many images it looks at."""
        n = count(artefacts, self.target, self.images)
        return n if self.images else min(n, ENOUGH)

    def _id(self, artefacts: Artefacts, target: ModelRecord) -> str:
        """Of the artefact, by the model."""
        data, n = artefacts.dataset(self.dataset).test.digest, self._count(artefacts)
        return certificate_id(target, data, n=n, largest_eps=self.largest_eps or 0.0)
