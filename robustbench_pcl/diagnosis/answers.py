"""What a check answers, and the comparison of two attempts that most of them are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from robustbench_pcl.diagnosis.evidence import Evidence, Trial
from robustbench_pcl.store.diagnoses import MATERIAL, Verdict

DIFFERENCE = (
    f"{MATERIAL:g} points less, and p < 0.05 (McNemar): on models that mask nothing, better "
    "attacks leave 1 to 4 points less"
)
SHARE = f"{MATERIAL:g} % of the images: so many could make a difference of {MATERIAL:g} points"


class Answer(NamedTuple):
    """What a check found; see :class:`~robustbench_pcl.store.diagnoses.Check`."""

    passed: bool | None
    sentence: str
    measured: dict[str, float]
    n: int
    threshold: str
    points_to: Verdict | None = None


def untold(sentence: str, threshold: str = "") -> Answer:
    """What could not be asked, and why."""
    return Answer(None, sentence, {}, 0, threshold)


def compared(
    evidence: Evidence, reference: Trial, others: Sequence[Trial], points_to: Verdict | None
) -> Answer:
    """Whether other attempts leave materially less than a reference: then the check fails."""
    strongest = min(others, key=lambda trial: trial.left)
    return Answer(
        passed=not any(reference.outdone_by(other) for other in others),
        sentence=f"{strongest.title} leaves {strongest.left:.1f} %, "
        f"{reference.title} {reference.left:.1f} %.",
        measured={trial.title: trial.left for trial in (reference, *others)},
        n=len(evidence.images),
        threshold=DIFFERENCE,
        points_to=points_to,
    )


def share_of(
    evidence: Evidence, measured: dict[str, float], what: str, points_to: Verdict | None
) -> Answer:
    """Whether the first of some shares, in per cent of the images, is large: then it fails."""
    first = next(iter(measured.values()))
    return Answer(
        passed=first < MATERIAL,
        sentence=f"{what} for {first:.1f} % of {len(evidence.images)} images.",
        measured=measured,
        n=len(evidence.images),
        threshold=SHARE,
        points_to=points_to,
    )
