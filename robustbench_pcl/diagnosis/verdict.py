"""The rule by which evidence becomes a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robustbench_pcl.diagnosis.evidence import Cure, Evidence, Trial
from robustbench_pcl.evaluation.statistics import LEVEL, mcnemar
from robustbench_pcl.store.diagnoses import MATERIAL, Check, Verdict

MOST = 0.5
"""A reason explains what was missed if one of its cures fells at least that share of it."""


class Reasoned(NamedTuple):
    """A verdict, and why, in one sentence."""

    verdict: Verdict
    sentence: str


def decide(evidence: Evidence, checks: Sequence[Check]) -> Reasoned:
    """Whether the judged number holds, and if not, why.

    The rule, in this order; "missed" are the images that withstand the judged attack and not
    everything that was tried:

    1. Two passes give other classes, or other company does: ``randomised``. Nothing else is asked.
       If no image is right before the attack, nothing is, either: ``not enough evidence``.
    2. Fewer than 5 points are missed: ``holds``, if there are enough images and an attack that was
       tried is competent, or if the number itself is below 5 %; else ``not enough evidence``.
    3. What is missed may be chance (McNemar, p of 0.05 or more): ``not enough evidence``.
    4. PGD on the same loss, with Table 2's steps or with 40, leaves less than 5 points missed:
       ``attack too weak``. What it fells is set aside from here on.
    5. One attack on a loss that does not saturate, on divided logits or in float64, with the steps
       of plain PGD, fells at least half of what is still missed: ``saturated``.
    6. APGD on the same loss leaves less than 5 points missed: ``attack too weak``. It comes after 5
       because its large first steps cross what saturation only dims.
    7. Else ``flat or rugged``: what found the rest are larger steps, more starts, search without
       gradients, transferred images or noise.

    Steps 4 to 6 ask for one attack, not for all of a kind: on a rugged surface every further
    attempt finds something, whatever its loss.

    Args:
        evidence: with all its trials.
        checks: as they were answered.
    """
    if not len(evidence.images):
        return Reasoned("not enough evidence", checks[0].sentence)
    failed = {check.points_to: check for check in reversed(checks) if check.passed is False}
    if "randomised" in failed:
        return Reasoned("randomised", failed["randomised"].sentence)
    judged, everything = evidence.judged, worst_case(evidence)
    found = (
        f"{judged.title} leaves {judged.left:.1f} %, everything that was tried "
        f"{everything.left:.1f} %"
    )
    missed = judged.right & ~everything.right
    if _points(missed, evidence) < MATERIAL:
        if "not enough evidence" in failed and judged.left >= MATERIAL:
            return Reasoned("not enough evidence", failed["not enough evidence"].sentence)
        return Reasoned("holds", f"{found}.")
    if mcnemar(judged.right.cpu().numpy(), everything.right.cpu().numpy()) >= LEVEL:
        return Reasoned("not enough evidence", f"{found}: of so few images, that may be chance.")
    verdict, cure = reason(evidence, missed)
    return Reasoned(verdict, f"{found}; {cure.title} alone {cure.left:.1f} %.")


def reason(evidence: Evidence, missed: Tensor) -> tuple[Verdict, Trial]:
    """Steps 4 to 7 of the rule, and the attempt that fells most of what the reason explains.

    Args:
        evidence: with all its trials.
        missed: boolean (M,), materially many.
    """
    stronger = _best(evidence, "attack too weak", missed)
    still = missed & stronger.right
    if _points(still, evidence) < MATERIAL:
        return "attack too weak", stronger
    scale_free = _best(evidence, "saturated", still)
    if int((still & ~scale_free.right).sum()) >= MOST * int(still.sum()):
        return "saturated", scale_free
    chosen = _best(evidence, "chosen steps", missed)
    if _points(missed & chosen.right, evidence) < MATERIAL:
        return "attack too weak", chosen
    return "flat or rugged", _best(evidence, "flat or rugged", still)


def worst_case(evidence: Evidence) -> Trial:
    """What withstands everything that was tried within the budget."""
    right = torch.ones_like(evidence.goal.labels, dtype=torch.bool)
    for trial in evidence.trials.values():
        right &= trial.right
    return Trial("everything", right, evidence.n)


def _points(rows: Tensor, evidence: Evidence) -> float:
    """Images of a boolean (M,), in per cent of all."""
    return 100 * int(rows.sum()) / evidence.n


def _best(evidence: Evidence, cures: Cure, missed: Tensor) -> Trial:
    """The attempt of a kind, of which there are several, that fells most of what was missed."""
    kind = [trial for trial in evidence.trials.values() if trial.cures == cures]
    return max(kind, key=lambda trial: int((missed & ~trial.right).sum()))
