"""A model within one budget, under every attack that was run: what each left, felled and took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from robustbench_pcl.data.datasets import DATASETS
from robustbench_pcl.evaluation.statistics import Bools, chao1
from robustbench_pcl.progress import counted
from robustbench_pcl.report.certified import TwoSided
from robustbench_pcl.report.formatting import listed, per_cent, show_budget
from robustbench_pcl.report.results import Record
from robustbench_pcl.store.diagnoses import Diagnosis
from robustbench_pcl.store.rules import wilson

NORMS = {"linf": "L-infinity", "l2": "L2", "l0": "L0"}
FIRST_STAGE = 2
"""In ``felled_by_per_image``, the first stage of a sequence; 0 withstood, 1 wrong when clean."""


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What one attack did to a model within a budget.

    Attributes:
        label: as papers write it, without the budget where that is the whole one.
        record: its measurement at the largest budget within this one.
        verdicts: bool (N,), which images withstood it at that budget and at smaller ones.
        felled_alone: images that no other attack felled.
        optimality: share, in per cent, of the images felled by any attack; None if none was.
    """

    label: str
    record: Record
    verdicts: Bools
    felled_alone: int
    optimality: float | None

    @property
    def forward_passes(self) -> float:
        """Per image."""
        return float(self.record.forward_passes / self.record.n)

    @property
    def backward_passes(self) -> float:
        """Per image."""
        return float(self.record.backward_passes / self.record.n)

    @property
    def stages(self) -> dict[str, int]:
        """How many images each stage of a sequence felled; nothing of a single attack."""
        if len(self.record.stages) < 2 or not self.record.felled_by_per_image:
            return {}
        codes = Counter(bytes.fromhex(self.record.felled_by_per_image))
        return {stage: codes[FIRST_STAGE + place] for place, stage in enumerate(self.record.stages)}


@dataclass(frozen=True, eq=False)
class Budget:
    """A model under all attacks within one budget, on the same images.

    Attributes:
        name: of the model, with what tells it from its namesakes.
        model: its row of any measurement.
        norm: of the threat model; None if it was never attacked.
        eps: in pixels of [0, 1]; None for attacks that minimise the perturbation.
        clean: the measurement of the clean images, if there is one.
        attacks: that were run with this budget or less, the strongest last.
        diagnosis: that speaks of the worst case, or None.
        certified: two-sided numbers within the budget, or the data set's; None if none are stored.
    """

    name: str
    model: Record
    norm: str | None
    eps: float | None
    clean: Record | None
    attacks: tuple[AttackResult, ...]
    diagnosis: Diagnosis | None = None
    certified: TwoSided | None = None

    @property
    def title(self) -> str:
        """What people call the data set."""
        name = self.model.dataset
        return DATASETS[name].title if name in DATASETS else str(name)

    @property
    def threat(self) -> str:
        """What people call the norm; "" if the model was never attacked."""
        return NORMS.get(self.norm or "", self.norm or "")

    @property
    def conditions(self) -> list[str]:
        """Norm, budget and n, in words."""
        budget = "no budget" if self.eps is None else show_budget(self.eps, None)
        parts = [self.threat, budget] if self.norm else []
        return [*parts, f"n = {self.model.n:,}"]

    @property
    def heading(self) -> str:
        """Model, data, scale, budget and n."""
        model = f"{self.name} on {self.title}"
        return ", ".join([model, f"{self.model.scale} scale", *self.conditions])

    @property
    def verdict(self) -> str | None:
        """The code of the diagnosis that speaks of the worst case, or None."""
        return self.diagnosis.code if self.diagnosis else None

    @property
    def has_verdicts(self) -> bool:
        """Whether a diagnosis speaks of any of its numbers."""
        return self.diagnosis is not None or any(each.record.verdict for each in self.attacks)

    @cached_property
    def right(self) -> Bools:
        """Bool (N,): right when clean; True for all where that is not known."""
        n = int(self.model.n)
        return np.ones(n, dtype=bool) if self.clean is None else unpacked(self.clean)

    @cached_property
    def withstood(self) -> Bools:
        """Bool (N,): the envelope, what is right when clean and under every attack."""
        return np.asarray(np.all([self.right, *(each.verdicts for each in self.attacks)], axis=0))

    @property
    def worst_case(self) -> tuple[float, tuple[float, float]]:
        """The envelope's accuracy and its 95 % Wilson interval, in per cent."""
        withstood, n = int(self.withstood.sum()), len(self.withstood)
        low, high = wilson(withstood, n)
        return per_cent(withstood / n), (per_cent(low), per_cent(high))

    @cached_property
    def missed(self) -> float | None:
        """An estimate of how many more images could be felled; None of fewer than two attacks."""
        if len(self.attacks) < 2:
            return None
        verdicts = np.stack([each.verdicts for each in self.attacks])
        return min(chao1(verdicts[:, self.right]), float(self.withstood.sum()))

    def felled_by(self) -> list[list[int] | None]:
        """For each image which of ``attacks`` felled it; None if it was wrong when clean."""
        return [
            [place for place, each in enumerate(self.attacks) if not each.verdicts[image]]
            if right
            else None
            for image, right in enumerate(self.right)
        ]

    def notes(self) -> Iterator[str]:
        """What a reader of the numbers has to know, one sentence or two each."""
        yield from self.certified.sentences if self.certified else ()
        if not self.attacks:
            command = f"pclbench attack {self.model.target} --dataset {self.model.dataset}"
            yield f"Not attacked yet: {command} --scale {self.model.scale}"
            return
        for each in self.attacks:
            if each.stages:
                by = [f"{count} by {stage}" for stage, count in each.stages.items() if count]
                if idle := len(each.stages) - len(by):
                    by.append(f"none by the other {idle}" if by else f"none by any of {idle}")
                yield f"Fooled by the stages of {each.label}, in their order: {'; '.join(by)}."
        yield self._estimate()
        early = [each.label for each in self.attacks if each.record.mode == "early-stop"]
        if early:
            yield f"Early stop: {listed(early)}."
        if self.clean is None:
            yield "No clean accuracy is stored: images that were wrong already count as fooled."

    def _estimate(self) -> str:
        """How many more images could be fooled, in words."""
        left = int(self.withstood.sum())
        if self.missed is None:
            return "How many more images could be fooled is estimated once there are two attacks."
        if not left:
            return "No image withstood."
        return (
            f"Of the {counted(left, 'image')} that withstood, about {self.missed:.0f} could still "
            "be fooled (Chao1, an estimate: it assumes that attacks find images independently)."
        )


def unpacked(row: Record) -> Bools:
    """A measurement's verdicts, bool (N,)."""
    packed = np.frombuffer(bytes.fromhex(row.correct_per_image), dtype=np.uint8)
    return np.unpackbits(packed, count=int(row.n)).astype(bool)
