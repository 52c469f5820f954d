"""What a diagnosis of a model says, and what is stored of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from robustbench_pcl.configuration import Description, Dump, digest
from robustbench_pcl.store.records import DataRecord, ModelRecord, StoredRecord
from robustbench_pcl.store.rules import (
    MOST_IMAGES,
    Fault,
    Faults,
    attack_faults,
    model_faults,
    outside,
    unequal,
    wilson,
)

RULE = 1
"""Which questions are asked and where lines are drawn: by another rule it is another diagnosis."""

Verdict = Literal[
    "holds",
    "saturated",
    "flat or rugged",
    "randomised",
    "attack too weak",
    "not enough evidence",
]
"""Whether a robust accuracy holds, and if not, why."""
CODES: Mapping[Verdict, str] = {
    "not enough evidence": "PCL100",
    "holds": "PCL101",
    "attack too weak": "PCL102",
    "saturated": "PCL103",
    "flat or rugged": "PCL104",
    "randomised": "PCL105",
}
"""What ``pclbench explain`` takes, and what stands beside a number."""
MATERIAL = 5.0
"""Points that make a difference. On adversarially trained models PGD-10 leaves 1 to 4 points more
than the strongest attacks known; on models that mask gradients 10 to 97."""


class Check(Description):
    """One question that was asked about a number.

    Attributes:
        code: what ``pclbench explain`` takes ("PCL201").
        name: in a few words ("iterative beats single-step").
        passed: whether the model behaves as one whose number holds; None if that cannot be told.
        points_to: the verdict that a failure speaks for, or None where it only warns.
        measured: the numbers behind it, by name; shares are per cent.
        n: images that were looked at.
        threshold: where the line is drawn, and why.
        sentence: what was found, in one sentence.
    """

    code: str
    name: str
    passed: bool | None
    points_to: Verdict | None = None
    measured: dict[str, float]
    n: int
    threshold: str
    sentence: str


class Competence(Description):
    """How often an attack finds adversarial images that exist by construction.

    The binarisation test of Zimmermann et al. (NeurIPS 2022).

    Attributes:
        attack: its complete configuration.
        label: as papers write it.
        found: images for which it found one.
        n: images that were tried.
        interval: 95 % Wilson interval of the share, as fractions.
    """

    attack: Dump
    label: str
    found: int
    n: int
    interval: tuple[float, float]


class Diagnosis(StoredRecord):
    """Whether a model's robust accuracy holds.

    Attributes:
        id: digest of what was asked: the model, the images, the attack and the seed.
        target: the model.
        data: the clean images.
        attack: whose number is judged, complete.
        label: of that attack, as papers write it.
        norm: of the budget: linf or l2.
        eps: the budget, in pixels of [0, 1].
        n: images.
        seed: of random starts.
        sources: other models whose adversarial images were tried.
        rule: version of the questions and of where lines are drawn.
        verdict: the answer.
        code: of the verdict ("PCL103").
        sentence: the answer with its figures, in one sentence.
        clean: images classified as their label before any attack.
        correct: images that withstand the judged attack.
        withstood: images that withstand every attack that was tried.
        interval: 95 % Wilson interval of ``withstood``, as fractions.
        checks: what was asked, in order.
        competence: of each attack that was tested.
        seconds: that it took.
    """

    what: ClassVar[str] = "diagnosis"

    id: str
    target: ModelRecord
    data: DataRecord
    attack: Dump
    label: str
    norm: str
    eps: float
    n: int
    seed: int
    sources: tuple[ModelRecord, ...] = ()
    rule: int = RULE
    verdict: Verdict
    code: str
    sentence: str
    clean: int
    correct: int
    withstood: int
    interval: tuple[float, float]
    checks: tuple[Check, ...]
    competence: tuple[Competence, ...] = ()
    seconds: float

    @property
    def file_name(self) -> str:
        """Its id."""
        return self.id

    def faults(self) -> Faults:
        """Id, code, counts and intervals follow from what was found."""
        for model in (self.target, *self.sources):
            yield from model_faults(model)
        for attack in (self.attack, *(each.attack for each in self.competence)):
            yield from attack_faults(attack)
        if self.rule == RULE:
            yield from unequal("id", self._expected_id(), self.id)
        yield from unequal("code", CODES[self.verdict], self.code)
        yield from unequal("eps", self.attack.get("eps"), self.eps)
        yield from outside("seconds", self.seconds, 0)
        for each in self.competence:
            what = f"competence of {each.label}"
            if not 0 <= each.found <= each.n > 0:
                yield Fault(what, "a share", each.found)
            else:
                yield from unequal(f"{what}, interval", wilson(each.found, each.n), each.interval)
        counts = (0, self.withstood, self.correct, self.clean, self.n)
        if list(counts) != sorted(counts) or not 0 < self.n <= MOST_IMAGES:
            yield Fault("counts", "withstood <= correct <= clean <= n", counts[1:])
        else:
            yield from unequal("interval", wilson(self.withstood, self.n), self.interval)

    def _expected_id(self) -> str:
        return diagnosis_id(
            self.target,
            self.data.digest,
            self.attack,
            n=self.n,
            seed=self.seed,
            sources=self.sources,
        )


def diagnosis_id(
    target: ModelRecord,
    data: str,
    attack: Dump,
    *,
    n: int,
    seed: int,
    sources: Sequence[ModelRecord] = (),
) -> str:
    """The id of a diagnosis: of the model, the images, the attack, the other models and the rule.

    Norm and budget are the attack's own, and so part of it.

    Args:
        target: the model.
        data: digest of the clean images.
        attack: whose number is judged, complete.
        n: images.
        seed: of random starts.
        sources: other models whose adversarial images are tried on it.
    """
    return digest(
        {
            "target": target.key,
            "data": data,
            "attack": attack,
            "n": n,
            "seed": seed,
            "sources": [source.key for source in sources],
            "rule": RULE,
        }
    )
