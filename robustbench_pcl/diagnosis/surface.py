"""Checks that look at the model itself: its answers, its gradients, and the way of an attack."""

from __future__ import annotations

import torch
from torch import Tensor

from robustbench_pcl.attacks.checks import apart, spread
from robustbench_pcl.attacks.losses import AttackLoss, logit_margin
from robustbench_pcl.attacks.passes import decided
from robustbench_pcl.diagnosis.answers import SHARE, Answer, share_of, untold
from robustbench_pcl.diagnosis.evidence import Evidence

COMPANY = 32
"""Images that are passed in pairs as well."""
PROBED = 0.1
"""Size of the step that has to keep the gradient's promise, as a share of eps."""
KEPT = (0.5, 2.0)
"""What has to come of what the gradient promises: on smooth networks 0.9 to 1.2 comes."""
AGREEING = 90.0
"""Per cent of signs that have to survive rounding: of margins on trained networks, 99 do."""
LAST = 0.1
"""Share of the steps that are the last ones."""
RISING = 0.075
"""Of the margin's rise, what may come in them: where it rises evenly, it is 0.1."""


def two_passes_agree(evidence: Evidence) -> Answer:
    """Of clean and of adversarial images."""
    evidence.judged  # noqa: B018 - makes the judged images
    changed = [
        _share(_differ(evidence, images, evidence.target.logits(images)))
        for images in (evidence.images, evidence.judged_images)
    ]
    parts = evidence.target.model.named_modules()
    left = [name or "the model" for name, part in parts if part.training]
    staying = f" {left[0]} stays in train mode." if left else ""
    return Answer(
        passed=not any(changed),
        sentence=f"Asked twice, the model gives {changed[0]:.1f} % of the clean and "
        f"{changed[1]:.1f} % of the adversarial images another class.{staying}",
        measured={"clean": changed[0], "adversarial": changed[1], "parts in train mode": len(left)},
        n=len(evidence.images),
        threshold="none: an answer that changes has no accuracy in one pass",
        points_to="randomised",
    )


def answers_alike_in_any_company(evidence: Evidence) -> Answer:
    """Each image with the next one alone, and among all."""
    some = evidence.images[:COMPANY]
    pairs = torch.cat([evidence.target.logits(pair) for pair in torch.split(some, 2)])
    changed = _share(_differ(evidence, some, pairs))
    return Answer(
        passed=changed == 0,
        sentence=f"In another batch, the model gives {changed:.1f} % of {len(some)} images "
        "another class.",
        measured={"changed": changed},
        n=len(some),
        threshold="none: an image's class must not depend on its batch",
        points_to="randomised",
    )


def _differ(evidence: Evidence, images: Tensor, logits: Tensor) -> Tensor:
    """Boolean (N,): whose class is another when asked again, by more than rounding."""
    again = evidence.target.logits(images)
    rounding = torch.finfo(logits.dtype).eps ** 0.5
    width = float(spread(logits).median())
    alike: Tensor = apart(logits, again, width) <= rounding
    return (decided(logits) != decided(again)) & ~alike


def _share(rows: Tensor) -> float:
    """Per cent of a boolean (N,)."""
    return 100 * float(rows.double().mean())


def gradients_reach_the_pixels(evidence: Evidence) -> Answer:
    """The margin's, which cannot saturate."""
    found = evidence.gradients(AttackLoss.margin)
    zero = ~found.gradient.flatten(1).any(dim=1)
    measured = {
        "none": _share(zero | found.blind),
        "zero": _share(zero & ~found.blind),
        "not finite": _share(found.blind),
    }
    what = "The logit margin's gradient is zero or not finite"
    return share_of(evidence, measured, what, "flat or rugged")


def cross_entropy_is_not_saturated(evidence: Evidence) -> Answer:
    """Its gradient, and the logit margins behind it."""
    found = evidence.gradients(AttackLoss.cross_entropy)
    margin = evidence.gradients(AttackLoss.margin)
    largest = found.gradient.abs().flatten(1).amax(dim=1)
    reached = margin.gradient.flatten(1).any(dim=1)  # what is cut off does not saturate
    if not bool(reached.any()):
        return untold("The margin has no gradient, so there is nothing to saturate.", SHARE)
    lost = (largest < torch.finfo(largest.dtype).tiny) & reached
    lead = -logit_margin(found.logits, evidence.goal.labels).double()
    shares = (5, 50, 95)
    levels = torch.tensor(shares, dtype=lead.dtype, device=lead.device) / 100
    certain = found.logits.softmax(dim=1).gather(1, evidence.goal.labels[:, None])[:, 0] == 1
    measured = {
        "lost": _share(lost),
        "zero": _share((largest == 0) & reached),
        "label's own gradient zero": _share(certain),
    }
    for share, value in zip(shares, lead.quantile(levels).tolist(), strict=True):
        measured[f"margin, percentile {share}"] = value
    what = "Cross-entropy's gradient is zero or subnormal"
    return share_of(evidence, measured, what, "saturated")


def gradients_keep_their_promise(evidence: Evidence) -> Answer:
    """What the margin gains in a small step along its gradient, over what the gradient says."""
    found, inside = evidence.gradients(AttackLoss.margin), evidence.ball
    step = PROBED * inside.eps * inside.steepest(found.gradient)
    reached = inside.project(evidence.images + step)
    promised = ((reached - evidence.images) * found.gradient).double().sum(dim=(1, 2, 3))
    margin = logit_margin(evidence.target.logits(reached), evidence.goal.labels)
    came = ((margin - found.values).double() / promised).nan_to_num(0, 0, 0)  # then nothing came
    told = promised > 0
    broken = ~((came >= KEPT[0]) & (came <= KEPT[1])) & told
    if not bool(told.any()):
        return untold("There is no gradient that predicts a change.", SHARE)
    measured = {"broken": _share(broken), "came, median": float(came[told].median())}
    return share_of(
        evidence, measured, "Gradients do not predict the change of the margin", "flat or rugged"
    )


def signs_survive_rounding(evidence: Evidence) -> Answer:
    """Of the margin's gradient, by the model and by its twin."""
    if evidence.twin is None:
        return untold("The model cannot be copied to float64.")
    single = evidence.gradients(AttackLoss.margin).gradient
    double = evidence.gradients(AttackLoss.margin, evidence.twin).gradient
    told = double != 0
    if not bool(told.any()):
        return untold("There is no gradient whose signs could be compared.")
    agreeing = _share((single.sign() == double.sign())[told])
    return Answer(
        passed=agreeing >= AGREEING,
        sentence=f"Float32 and float64 agree about {agreeing:.1f} % of the gradients' signs.",
        measured={"agreeing": agreeing},
        n=len(evidence.images),
        threshold=f"{AGREEING:g} %: on trained networks 99 % agree",
        points_to="flat or rugged",
    )


def loss_has_stopped_rising(evidence: Evidence) -> Answer:
    """Of the images that withstand: what of the margin's rise comes in the last steps."""
    threshold = f"{100 * RISING:g} % of the rise: it is 10 % where it rises evenly to the end"
    found = evidence.way
    if found is None or len(found.margins) < 3:
        return untold("The judged attack does not go step by step.", threshold)
    margins = found.margins[:, ~found.fooled.any(dim=0)].double().mean(dim=1)
    if not margins.isfinite().all() or float(rise := margins[-1] - margins[0]) <= 0:
        return untold("The margin of no image that withstands has risen.", threshold)
    last = max(1, round(LAST * (len(margins) - 1)))
    share = float((margins[-1] - margins[-1 - last]) / rise)
    return Answer(
        passed=share < RISING,
        sentence=f"{100 * share:.1f} % of the margin's rise comes in the last tenth of the steps.",
        measured={"last tenth": 100 * share, "rise": float(rise)},
        n=int((~found.fooled.any(dim=0)).sum()),
        threshold=threshold,
        points_to="attack too weak",
    )


def path_is_returned(evidence: Evidence) -> Answer:
    """Images that are fooled on the way, and not at its end."""
    found = evidence.way
    if found is None:
        return untold("The judged attack does not go step by step.", SHARE)
    lost = found.fooled.any(dim=0) & ~found.fooled[-1]
    what = "The last point is not adversarial, but one before it was,"
    return share_of(evidence, {"lost": _share(lost)}, what, "attack too weak")
