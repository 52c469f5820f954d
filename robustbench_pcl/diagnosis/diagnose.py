"""Whether a robust accuracy holds, and if not, why."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.base import Attack, Norm, draw_seeds
from robustbench_pcl.attacks.checks import (
    PROBE,
    check_answers,
    check_finite,
    check_gradient,
    check_images,
)
from robustbench_pcl.attacks.passes import decided
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import parse_radius
from robustbench_pcl.diagnosis.checks import CHECKS
from robustbench_pcl.diagnosis.codes import explanation
from robustbench_pcl.diagnosis.evidence import FAST, Attached, Evidence, unsaid
from robustbench_pcl.diagnosis.verdict import decide, worst_case
from robustbench_pcl.errors import InvalidInputError, UserError
from robustbench_pcl.evaluation.evaluate import within
from robustbench_pcl.progress import Progress
from robustbench_pcl.store.diagnoses import CODES, Check, Competence, Verdict
from robustbench_pcl.store.rules import wilson


@dataclass(frozen=True, repr=False)
class Found:
    """What a diagnosis found; :class:`~robustbench_pcl.store.diagnoses.Diagnosis` says of what.

    Attributes:
        verdict: the answer.
        code: of the verdict ("PCL103").
        sentence: the answer with its figures, in one sentence.
        attack: whose number is judged.
        norm: of the budget.
        eps: the budget, in pixels of [0, 1].
        n: images.
        seed: of random starts.
        clean: images classified as their label before any attack.
        correct: images that withstand the judged attack.
        withstood: images that withstand every attack that was tried.
        interval: 95 % Wilson interval of ``withstood``, as fractions.
        checks: what was asked, in order.
        competence: of each attack that was tested.
        seconds: that it took.
    """

    verdict: Verdict
    sentence: str
    attack: Attack
    eps: float
    n: int
    seed: int
    clean: int
    correct: int
    withstood: int
    checks: tuple[Check, ...]
    competence: tuple[Competence, ...]
    seconds: float

    @property
    def code(self) -> str:
        """What explains the verdict."""
        return CODES[self.verdict]

    @property
    def label(self) -> str:
        """The judged attack as papers write it."""
        return self.attack.label

    @property
    def norm(self) -> Norm:
        """Of the budget."""
        return self.attack.norm

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of ``withstood``, as fractions."""
        return wilson(self.withstood, self.n)

    def __repr__(self) -> str:
        """The verdict, and a line for each check."""
        marks = {True: "ok", False: "!!", None: "--"}
        lines = [f"{self.verdict} ({self.code}): {self.sentence}"]
        lines += [f"  {marks[each.passed]} {each.code} {each.sentence}" for each in self.checks]
        return "\n".join(lines)


def diagnose(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float | str | None = None,
    *,
    attack: Attack | str = "pgd",
    norm: Norm = "linf",
    seed: int = 0,
    sources: Mapping[str, nn.Module] = {},
    progress: Progress | None = None,
) -> Found:
    """Judge the number that an attack leaves: does it hold, and if not, why.

    Args:
        model: maps images to logits (N, K); normalisation is inside it. It may be randomised, and
            it may have no gradient.
        images: float (N, C, H, W) in [0, 1], on the model's device.
        labels: int64 (N,).
        eps: the budget, in pixels of [0, 1]; None for the attack's own.
        attack: whose number is judged: a configuration, or a name, which gets eps and norm.
        norm: of the budget, for a name.
        seed: of random starts.
        sources: other models of the same task, by name; their adversarial images are tried, too.
        progress: told which check is asked.

    Returns:
        The verdict, what was found by each check, and how competent the attacks are.

    Raises:
        InvalidInputError: images, labels or the model are not what can be judged.
        UserError: the attack is unknown, has no budget, or a larger one than eps.
    """
    began = time.perf_counter()
    check_images(images, labels)
    if not len(images):
        raise InvalidInputError("There are no images.", "Give at least one.")
    judged = within(attack, None if eps is None else parse_radius(eps), norm)
    if getattr(judged, "eps", None) == 0:
        raise UserError(
            "With eps 0, no pixel may change.", "Give a larger eps, such as 0.03 or 8/255."
        )
    if not hasattr(judged, "eps"):
        raise UserError(
            f"{judged.label} has no budget, so no other attack can be laid beside it.",
            "Judge the number of one that has: attack='pgd'.",
        )
    with (
        torch.random.fork_rng(),
        TargetModel(model, FAST, say=unsaid, forwards=judged.forwards) as target,
    ):
        torch.manual_seed(seed)
        evidence = _gathered(
            target, images.detach(), labels, judged=judged, seed=seed, sources=sources
        )
        checks = _asked(evidence, progress or Progress())
        verdict, sentence = decide(evidence, checks)
        return Found(
            verdict=verdict,
            sentence=sentence,
            attack=judged,
            eps=evidence.eps,
            n=len(images),
            seed=seed,
            clean=len(evidence.images),
            correct=int(evidence.judged.right.sum()),
            withstood=int(worst_case(evidence).right.sum()),
            checks=checks,
            competence=evidence.competence,
            seconds=time.perf_counter() - began,
        )


def _gathered(
    target: TargetModel,
    images: Tensor,
    labels: Tensor,
    *,
    judged: Attack,
    seed: int,
    sources: Mapping[str, nn.Module],
) -> Evidence:
    """The images that the model has right, and the model itself, with a path for gradients."""
    check_answers(target, images, labels)
    try:
        check_gradient(target, images[:PROBE])
    except InvalidInputError:  # a check will say so
        target.model = Attached(target.model).eval()
    logits = target.logits(images)
    check_finite(logits, "clean images")
    right = decided(logits) == labels
    seeds = draw_seeds(len(images), torch.Generator().manual_seed(seed)).to(images.device)
    return Evidence(
        target,
        images[right],
        labels[right],
        len(images),
        judged=judged,
        seeds=seeds[right],
        sources=sources,
    )


def _asked(evidence: Evidence, progress: Progress) -> tuple[Check, ...]:
    """Every check, as far as there is an answer to judge."""
    checks: list[Check] = []
    with progress.task("Diagnosis", len(CHECKS)) as advance:
        for code, ask in CHECKS.items():
            name = explanation(code).name
            checks.append(Check(code=code, name=name, **ask(evidence)._asdict()))
            advance(1, name)
            changes = any(each.points_to == "randomised" and not each.passed for each in checks)
            if changes or not len(evidence.images):
                break
    return tuple(checks)
