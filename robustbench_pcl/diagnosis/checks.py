"""All checks, in the order in which they are asked; a new one is a function, and a line here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import torch

from robustbench_pcl.attacks.auto_pgd import APGD
from robustbench_pcl.attacks.gradient_descent import FGSM, PGD
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.attacks.square import Square
from robustbench_pcl.attacks.two_phases import A3
from robustbench_pcl.diagnosis import surface
from robustbench_pcl.diagnosis.answers import Answer, compared, untold
from robustbench_pcl.diagnosis.competence import competence
from robustbench_pcl.diagnosis.evidence import Evidence, Trial, short_label
from robustbench_pcl.store.diagnoses import MATERIAL

FEWEST = 100
"""Images that are right when clean: losing six of them is just more than chance."""
QUERIES = 500
"""Of Square: where gradients show the way, so few find less than they do."""
DRAWS = 20
"""Random points of each image's ball."""
COMPETENT = 90.0
"""Per cent of the adversarial images that exist by construction, which an attack has to find: it is
incompetent where the share's 95 % interval lies below."""
TESTED = 20
"""Of so many such images at least; fewer tell nothing, since their interval is too wide."""
RUNGS = (0.25, 0.5, 2.0, 4.0)
"""Budgets that are tried beside the judged one, as multiples of it; then the largest there is."""


def enough_images(evidence: Evidence) -> Answer:
    """How many can be lost."""
    right = len(evidence.images)
    return Answer(
        passed=right >= FEWEST,
        sentence=f"{right} of {evidence.n} images are right before the attack"
        + ("." if right >= FEWEST else f", and {FEWEST} are needed: give more."),
        measured={"right": right, "all": evidence.n},
        n=evidence.n,
        threshold=f"{FEWEST} that are right: losing 6 of them is just more than chance",
        points_to="not enough evidence",
    )


def iterative_beats_single_step(evidence: Evidence) -> Answer:
    """Section 6.6, first check: one step of size eps, on the same loss."""
    single = evidence.attack(evidence.within_budget(FGSM, loss=same_loss(evidence)))
    return compared(evidence, evidence.white_box, [single], None)


def white_box_beats_transfer(evidence: Evidence) -> Answer:
    """Section 6.6, second check: images made on other models."""
    if not evidence.sources:
        return untold("No other model was given to transfer images from.")
    others = [evidence.transferred(name) for name in evidence.sources]
    return compared(evidence, evidence.white_box, others, "flat or rugged")


def gradients_beat_search(evidence: Evidence) -> Answer:
    """Section 6.6, second check: search by logits alone."""
    square = evidence.within_budget(Square, steps=QUERIES)
    trial = evidence.attack(square, "flat or rugged")
    return compared(evidence, evidence.white_box, [trial], "flat or rugged")


def accuracy_falls(evidence: Evidence) -> Answer:
    """Section 6.6, third check: no larger budget leaves more than a smaller one."""
    base, steps = evidence.base, [(evidence.eps, evidence.attack(evidence.base))]
    for eps in (factor * evidence.eps for factor in RUNGS):
        if eps < evidence.largest_eps:
            right, _ = evidence.run(base.changed(eps=eps))
            title = f"{short_label(base)} at eps {eps:.3g}"
            steps.append((eps, Trial(title, right, evidence.n)))
            if eps < evidence.eps:  # what is within a smaller budget is within this one
                evidence.points(title, right)
    steps.sort(key=lambda step: step[0])
    trials = [trial for _, trial in steps]
    rises = [high.outdone_by(low) for low, high in itertools.pairwise(trials)]
    shown = ", ".join(f"{trial.left:.1f}" for trial in trials)
    return Answer(
        passed=not any(rises),
        sentence=f"At eps {', '.join(f'{eps:.3g}' for eps, _ in steps)}: {shown} %.",
        measured={f"eps {eps:.3g}": trial.left for eps, trial in steps},
        n=len(evidence.images),
        threshold=f"no rise by {MATERIAL:g} points that is not chance (McNemar, p < 0.05)",
    )


def unbounded_leaves_nothing(evidence: Evidence) -> Answer:
    """Section 6.6, third check: at the largest budget there is."""
    largest = evidence.base.changed(eps=evidence.largest_eps)
    right, _ = evidence.run(largest)
    left = Trial("", right, evidence.n).left
    return Answer(
        passed=left < MATERIAL,
        sentence=f"{short_label(largest)} leaves {left:.1f} % at eps {evidence.largest_eps:g}.",
        measured={"left": left},
        n=len(evidence.images),
        threshold=f"under {MATERIAL:g} %: every image can become one of another class",
    )


def other_losses_find_no_more(evidence: Evidence) -> Answer:
    """MIFPE and the margin, with the steps of plain PGD on cross-entropy."""
    losses = (AttackLoss.mifpe, AttackLoss.margin)
    attacks = [evidence.within_budget(PGD, loss=loss) for loss in losses]
    trials = [evidence.attack(attack, "saturated") for attack in attacks]
    return compared(evidence, evidence.plain, trials, "saturated")


def divided_logits_find_no_more(evidence: Evidence) -> Answer:
    """Cross-entropy of logits divided by 10 and by 100."""
    attacks = [evidence.within_budget(PGD, logit_scale=scale) for scale in (0.1, 0.01)]
    trials = [evidence.attack(attack, "saturated") for attack in attacks]
    return compared(evidence, evidence.plain, trials, "saturated")


def float64_finds_no_more(evidence: Evidence) -> Answer:
    """Plain PGD with gradients in float64."""
    if evidence.twin is None:
        return untold("The model cannot be copied to float64.")
    trial = evidence.attack(evidence.within_budget(PGD), "saturated", twin=evidence.twin)
    return compared(evidence, evidence.plain, [trial], "saturated")


def larger_first_steps_find_no_more(evidence: Evidence) -> Answer:
    """Plain PGD, its steps from 2 eps down to 0."""
    larger = evidence.within_budget(PGD, relative_step_size=2.0, schedule="cosine")
    trial = evidence.attack(larger, "flat or rugged")
    return compared(evidence, evidence.white_box, [trial], "flat or rugged")


def more_starts_find_no_more(evidence: Evidence) -> Answer:
    """Plain PGD from several points, and A3, which looks for another way each time."""
    attacks = evidence.within_budget(PGD, restarts=5), evidence.within_budget(A3, restarts=2)
    trials = [evidence.attack(attack, "flat or rugged") for attack in attacks]
    return compared(evidence, evidence.white_box, trials, "flat or rugged")


def noise_finds_no_more(evidence: Evidence) -> Answer:
    """Random points of the ball, half of them as far away as it allows."""
    inside, right = evidence.ball, torch.ones_like(evidence.judged.right)
    for draw in range(DRAWS // 2):
        somewhere = inside.random(evidence.seeds + draw)
        furthest = inside.project(
            evidence.images + inside.eps * inside.steepest(somewhere - evidence.images)
        )
        right &= evidence.withstands(somewhere) & evidence.withstands(furthest)
    trial = evidence.points(f"noise, {DRAWS} draws", right, "flat or rugged")
    return compared(evidence, evidence.white_box, [trial], "flat or rugged")


def more_steps_find_no_more(evidence: Evidence) -> Answer:
    """The judged attack's loss with Table 2's steps, with 40, and by APGD-100."""
    loss = same_loss(evidence)
    attacks = (
        evidence.within_budget(PGD, loss=loss),
        evidence.within_budget(PGD, loss=loss, steps=40),
    )
    trials = [evidence.attack(attack, "attack too weak") for attack in attacks]
    trials.append(evidence.attack(evidence.within_budget(APGD, loss=loss), "chosen steps"))
    return compared(evidence, evidence.judged, trials, "attack too weak")


def attacks_find_what_is_there(evidence: Evidence) -> Answer:
    """Adversarial images that exist by construction, by the judged attack and by a stronger one."""
    stronger = evidence.within_budget(PGD, loss=AttackLoss.margin, steps=40)
    tested = evidence.competence = competence(evidence, (evidence.judged_attack, stronger))
    if not tested:
        return untold("The layer that gives the logits cannot be told, so it cannot be replaced.")
    best = max(tested, key=lambda each: each.found)
    low, high = (100 * end for end in best.interval)
    enough = best.n >= min(TESTED, len(evidence.images))
    return Answer(
        passed=high >= COMPETENT if enough else None,
        sentence=f"{best.label} finds {best.found} of {best.n} adversarial images that exist by "
        f"construction ({low:.0f} to {high:.0f} %).",
        measured={each.label: 100 * each.found / each.n for each in tested},
        n=best.n,
        threshold=f"{COMPETENT:g} % for one of them, within its 95 % interval: 97 to 100 on models "
        "that mask nothing",
        points_to="not enough evidence",
    )


def same_loss(evidence: Evidence) -> AttackLoss:
    """The judged attack's; cross-entropy where it has none, or several."""
    loss: AttackLoss = getattr(evidence.judged_attack, "loss", AttackLoss.cross_entropy)
    return loss


CHECKS: Mapping[str, Callable[[Evidence], Answer]] = {
    "PCL251": enough_images,
    "PCL231": surface.two_passes_agree,
    "PCL232": surface.answers_alike_in_any_company,
    "PCL201": iterative_beats_single_step,
    "PCL202": white_box_beats_transfer,
    "PCL203": gradients_beat_search,
    "PCL204": accuracy_falls,
    "PCL205": unbounded_leaves_nothing,
    "PCL211": surface.gradients_reach_the_pixels,
    "PCL212": surface.cross_entropy_is_not_saturated,
    "PCL213": other_losses_find_no_more,
    "PCL214": divided_logits_find_no_more,
    "PCL215": float64_finds_no_more,
    "PCL221": surface.gradients_keep_their_promise,
    "PCL222": surface.signs_survive_rounding,
    "PCL223": larger_first_steps_find_no_more,
    "PCL224": more_starts_find_no_more,
    "PCL225": noise_finds_no_more,
    "PCL241": surface.loss_has_stopped_rising,
    "PCL242": more_steps_find_no_more,
    "PCL243": surface.path_is_returned,
    "PCL252": attacks_find_what_is_there,
}
"""Check by code, in the order in which they are asked. The first ones ask whether there is an
answer to judge; where there is none, the others are not asked."""
