"""How much of a model's accuracy withstands attacks: the whole evaluation in one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from robustbench_pcl.attacks import ATTACKS
from robustbench_pcl.attacks.base import Attack, Goal, Norm, draw_seeds
from robustbench_pcl.attacks.checks import check_finite, check_images, check_model
from robustbench_pcl.attacks.fast_model import EXACT, shortcuts_for
from robustbench_pcl.attacks.stages import WITHSTOOD, run_all
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.errors import InvalidInputError, UserError
from robustbench_pcl.store.rules import wilson

COLUMNS = {
    "attack": "with every parameter that is not its default, as papers write it",
    "accuracy": "share of the images that are classified as their label, in per cent",
    "low": "lower end of the accuracy's 95 % Wilson interval, in per cent",
    "high": "its upper end",
    "n": "images",
    "seconds": "that the attack took",
    "forward_passes": "images passed forward by it, the verdicts included",
    "backward_passes": "images passed backward by it",
}
"""The columns of ``Evaluation.table``."""


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What attacks leave of a model's accuracy. Every verdict is the model's own, as it was given.

    Attributes:
        clean: boolean (N,), the clean image is classified as its label.
        robust: boolean (N,), so it is under every attack.
        adversarial: float (N, C, H, W), for each image the first that fooled the model; where none
            did, the last attack's; the clean one where that is wrong already.
        felled_by: for each image the attack, or its stage, that fooled the model first; "clean"
            where the model is wrong already, "" where it is robust.
        blind: boolean (N,), robust, but in some pass its gradient was NaN or infinite in every
            pixel, so that nothing is known of its robustness.
        forward_passes: images passed forward.
        backward_passes: images passed backward.
        table: a row for clean images, one for each attack, and one for the worst case if there are
            several attacks; see ``COLUMNS``.
    """

    clean: Tensor
    robust: Tensor
    adversarial: Tensor
    felled_by: tuple[str, ...]
    blind: Tensor
    forward_passes: int
    backward_passes: int
    table: pd.DataFrame

    def __repr__(self) -> str:
        """The table for a terminal."""
        return self._shown().to_string(index=False)

    def _repr_html_(self) -> str:
        """The table for a notebook."""
        return str(self._shown().to_html(index=False, border=0))

    def _shown(self) -> pd.DataFrame:
        shown = self.table[["attack", "accuracy", "low", "high", "n"]].round(1)
        return shown.rename(columns={"accuracy": "accuracy %", "low": "95 % low", "high": "high"})


WRONG = "clean"
"""What stands for the attack that felled an image which is wrong already."""


class Cost(NamedTuple):
    """What something took."""

    seconds: float
    forward_passes: int
    backward_passes: int

    @classmethod
    def of(cls, target: TargetModel) -> Cost:
        """What a model has taken up to now."""
        return cls(time.perf_counter(), target.forward_passes, target.backward_passes)

    def since(self, before: Cost) -> Cost:
        """What came on top."""
        return Cost(self[0] - before[0], self[1] - before[1], self[2] - before[2])


NOTHING = Cost(0.0, 0, 0)


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attacks: Attack | str | Sequence[Attack | str] = "pgd",
    eps: float | None = None,
    *,
    exact: bool = False,
    seed: int = 0,
) -> Evaluation:
    """Attack a model, and say what it has right before and after.

    Args:
        model: maps images to logits (N, K); normalisation is inside it.
        images: float (N, C, H, W) in [0, 1], on the model's device.
        labels: int64 (N,).
        attacks: configurations or names, one or several.
        eps: the threat model: the largest perturbation, in pixels of [0, 1] and the attacks' norm.
            Names get it; a configuration may have less. None for the attacks' own.
        exact: make every gradient with the model itself and take all steps for all images. If not,
            a fast copy makes gradients, an image leaves at the first step that fools the model,
            and what is wrong already is not attacked.
        seed: of random starts.

    Raises:
        InvalidInputError: images, labels or the model are not what can be judged.
        UserError: an attack is unknown, has more than the threat model's budget, or has none; or
            attacks of several norms are to have one budget.
    """
    check_images(images, labels)
    if not len(images):
        raise InvalidInputError("There are no images.", "Give at least one.")
    images = images.detach()
    given = [attacks] if isinstance(attacks, Attack | str) else attacks
    complete = [within(attack, eps) for attack in given]
    if eps is not None and len(norms := {attack.norm for attack in complete}) > 1:
        cause = (
            f"eps {eps:g} is one budget, and the attacks' norms are {' and '.join(sorted(norms))}."
        )
        raise UserError(cause, "Evaluate each norm by itself, with a budget of its own.")
    seeds = draw_seeds(len(images), torch.Generator().manual_seed(seed)).to(images.device)
    fast = replace(shortcuts_for(images.device), early_stop=True)
    forwards = max(attack.forwards for attack in complete)
    with TargetModel(model, EXACT if exact else fast, forwards=forwards) as target:
        needed = any(attack.needs_gradient for attack in complete)
        check_model(target, images, labels, gradient=needed)
        logits = target.logits(images)
        check_finite(logits, "clean images")
        clean = logits.argmax(dim=1) == labels
        attacked = torch.ones_like(clean) if exact else clean
        robust, adversarial = clean.clone(), images.clone()
        unfooled, blind = attacked.clone(), torch.zeros_like(clean)
        rows = [_row("Clean", clean)]
        felled_by = ["" if right else WRONG for right in clean.tolist()]
        for attack in complete:
            spent = Cost.of(target)
            found = run_all(attack, target, images, Goal(labels), seeds, attacked)
            made, felled = found.images, torch.from_numpy(found.verdicts.felled_by).to(clean.device)
            right = felled == WITHSTOOD
            titles = [stage.title for stage in found.stages]
            felled_by = [
                before or (titles[number] if number >= 0 else "")
                for before, number in zip(felled_by, felled.tolist(), strict=True)
            ]
            blind |= target.warn_of_blind_images(made, labels)
            rows.append(_row(attack.label, right, Cost.of(target).since(spent)))
            adversarial[unfooled] = made[unfooled]
            unfooled &= right
            robust &= right
        if len(complete) > 1:
            rows.append(_row("worst case", robust))
        return Evaluation(
            clean=clean,
            robust=robust,
            adversarial=adversarial,
            felled_by=tuple(felled_by),
            blind=blind & robust,
            forward_passes=target.forward_passes,
            backward_passes=target.backward_passes,
            table=pd.DataFrame(rows, columns=list(COLUMNS)),
        )


def within(attack: Attack | str, eps: float | None, norm: Norm | None = None) -> Attack:
    """A complete attack within the threat model.

    Args:
        attack: a configuration, or a name, which gets the budget and its norm.
        eps: the budget; None for the attack's own.
        norm: of the budget; None for the attack's own.

    Raises:
        UserError: the attack is unknown, has more than the threat model's budget, or has none.
    """
    if isinstance(attack, str):
        given = {"eps": eps, "norm": norm}
        known = ATTACKS[attack].model_fields
        chosen = {key: each for key, each in given.items() if each is not None and key in known}
        attack = ATTACKS.configure(attack, chosen)
    if eps is None:
        return attack
    own = getattr(attack, "eps", None)
    if own is None:
        raise UserError(
            f"{attack.label} has no budget, so eps {eps:g} would not bound it.",
            "Evaluate it by itself, without eps.",
        )
    if own > eps:
        raise UserError(
            f"{attack.label} may change more than the threat model's eps {eps:g}.",
            f"Give it at most that: {type(attack).__name__}(eps={eps:g}).",
        )
    return attack


def _row(attack: str, correct: Tensor, cost: Cost = NOTHING) -> tuple[str | float, ...]:
    n, right = len(correct), int(correct.sum())
    low, high = wilson(right, n)
    return attack, 100 * right / n, 100 * low, 100 * high, n, *cost
