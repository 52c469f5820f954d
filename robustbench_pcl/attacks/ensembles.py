"""Several attacks as one: AutoAttack as it was published, and the strongest that is known here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from robustbench_pcl.attacks.auto_pgd import APGD, APGDT
from robustbench_pcl.attacks.base import Attack, Goal, Stage, attack_label
from robustbench_pcl.attacks.fab import FAB
from robustbench_pcl.attacks.gradient_descent import PGD
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.attacks.square import Square
from robustbench_pcl.attacks.stages import run_all
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.attacks.two_phases import A3, MD
from robustbench_pcl.configuration import Count, Radius

if TYPE_CHECKING:
    from torch import Tensor

RANDOM_FORWARDS = 20
"""Passes whose mean is a gradient in AutoAttack's version for randomised models."""
STARTS, QUICK_TARGETS = 7, 2
"""Starts of A3, and classes of a quick APGD-T."""
SAMPLE, SAMPLE_QUERIES = 200, 500
"""Of those that withstand all gradients, how many are searched without them first, and how long."""

COMMON = ("eps", "norm", "forwards", "order", "targets", "relative_step_size", "schedule")
"""Parameters that go without saying in a stage's title."""


class Ensemble(Attack):
    """Attacks one after the other; each takes who withstood those before.

    A member says which they are.
    """

    early_stop: ClassVar[bool] = True
    needs_gradient: ClassVar[bool] = False  # what does not is left

    eps: Radius = Field(8 / 255, description="largest perturbation, in pixels of [0, 1]")

    def stages(self, classes: int) -> tuple[Stage, ...]:
        """Those of its attacks, without what all of them have in common in their titles."""
        return tuple(map(_shortened, self.sequence(classes)))

    @abstractmethod
    def sequence(self, classes: int) -> Iterator[Stage]:
        """Its stages in their order; see :meth:`Attack.stages`."""

    def perturb(self, target: TargetModel, images: Tensor, goal: Goal, seeds: Tensor) -> Tensor:
        """For each image the first that fooled, or else the one that came nearest to it."""
        return run_all(self, target, images, goal, seeds).images

    @property
    def shared(self) -> dict[str, Any]:
        """What all its attacks have in common."""
        return {"eps": self.eps, "norm": self.norm, "forwards": self.forwards}


def _shortened(stage: Stage) -> Stage:
    """With a title that says only what tells it from the others."""
    dump = stage.attack.dump()
    own = attack_label({key: value for key, value in dump.items() if key not in COMMON})
    known = {*stage.attack.label.split(", ")} - {*own.split(", ")}
    told = [words for words in stage.title.split(", ") if words not in known]
    return replace(stage, title=", ".join(told))


class AutoAttack(Ensemble):
    r"""AutoAttack as published: APGD-CE, APGD-T on DLR, FAB-T, Square (Croce and Hein, ICML 2020).

    An image counts as robust if it withstands all of them:

    .. math::

        \min_{a} \; \mathbf{1} \left[ \arg\max_k z_k(x'_a) = y \right]

    In that order, 100 steps, 9 targets, 5,000 queries. *plus* starts APGD five times, also on DLR;
    its FAB without targets, which FAB-T contains, is left out. *rand* is for randomised models: the
    mean of 20 passes is a gradient and an answer.
    """

    title: ClassVar[str] = "AutoAttack"

    name: Literal["auto"] = "auto"
    version: Literal["standard", "plus", "rand"] = Field(
        "standard", description="standard, plus (more starts), or rand (randomised models)"
    )

    @model_validator(mode="before")
    @classmethod
    def _mean_of_passes(cls, given: Any) -> Any:
        """For randomised models, as many passes as are published."""
        if isinstance(given, dict) and given.get("version") == "rand":
            return {"forwards": RANDOM_FORWARDS, **given}
        return given

    def sequence(self, classes: int) -> Iterator[Stage]:
        """Those of its attacks."""
        own = self.shared
        first, second = APGD(**own), APGD(**own, loss=AttackLoss.dlr)
        targeted, boundary, search = APGDT(**own), FAB(**own), Square(**own)
        more = {"restarts": 5}
        attacks = {
            "standard": (first, targeted, boundary, search),
            "plus": (first.changed(**more), second.changed(**more), search, targeted, boundary),
            "rand": (first, second),
        }[self.version]
        return chain.from_iterable(attack.stages(classes) for attack in attacks)


class Strongest(Ensemble):
    r"""The strongest attack known here, from cheap to expensive; in the middle AutoAttack's own.

    An image counts as robust if it withstands all of them:

    .. math::

        \min_{a} \; \mathbf{1} \left[ \arg\max_k z_k(x'_a) = y \right]

    *quick*: PGD on the margin and on MIFPE with falling steps, A3's starts, APGD towards the two
    most promising classes. *standard*: APGD towards nine classes, on DLR with AutoAttack's starts
    and then on the margin, in MALT's order; other surfaces (APGD on cross-entropy with AutoAttack's
    start, MD, and where the model carries them the losses on features); and a random search on the
    200 nearest of those left, which goes on with all of them only if it fells any. *exhaustive*:
    also FAB-T and the whole random search, so that it contains AutoAttack.

    No margin decides alone: cross-entropy, DLR and a search without gradients are in it.
    """

    title: ClassVar[str] = "Strongest"

    name: Literal["strongest"] = "strongest"
    budget: Literal["quick", "standard", "exhaustive"] = Field(
        "standard", description="how much may be spent: quick, standard or exhaustive"
    )
    margin_targets: Count = Field(1, description="wrong classes that APGD-T on the margin attacks")

    def sequence(self, classes: int) -> Iterator[Stage]:
        """Those of its attacks, as far as the budget goes."""
        yield from self._sieve(classes)
        yield from A3(**self.shared, restarts=STARTS).stages(classes)
        if self.budget == "quick":
            quick = APGDT(**self.shared, order="malt", targets=QUICK_TARGETS)
            yield from quick.stages(classes)
        else:
            yield from self._targeted(classes)
            yield from self._other_surfaces(classes)
            yield from self._search(classes)

    def _sieve(self, classes: int) -> Iterator[Stage]:
        """Cheap steps that fell nearly all who can be felled."""
        fall = {"steps": 20, "relative_step_size": 2.0, "schedule": "cosine"}
        for loss in (AttackLoss.margin, AttackLoss.mifpe):
            yield from PGD(**self.shared, **fall, loss=loss).stages(classes)

    def _targeted(self, classes: int) -> Iterator[Stage]:
        """AutoAttack's APGD-T, most promising class first; then a few of them on the margin."""
        towards = APGDT(**self.shared, order="malt")
        yield from towards.stages(classes)
        on_margin = towards.changed(loss=AttackLoss.margin, targets=self.margin_targets)
        yield from on_margin.stages(classes)

    def _other_surfaces(self, classes: int) -> Iterator[Stage]:
        """AutoAttack's APGD-CE, and losses that look elsewhere."""
        first = APGD(**self.shared)
        yield from first.stages(classes)
        yield from MD(**self.shared).stages(classes)
        for loss in (AttackLoss.joint, AttackLoss.prototype, AttackLoss.feature):
            for stage in first.changed(loss=loss, steps=50).stages(classes):
                yield replace(stage, needs=loss.value)

    def _search(self, classes: int) -> Iterator[Stage]:
        """Without gradients: on a few first, unless everything is wanted."""
        everything = Square(**self.shared)
        if self.budget == "exhaustive":
            yield from FAB(**self.shared).stages(classes)
        else:
            few = everything.changed(steps=SAMPLE_QUERIES)
            yield Stage(few, f"{few.label}, the {SAMPLE} nearest", most=SAMPLE)
        (whole,) = everything.stages(classes)
        yield replace(whole, after_success=self.budget != "exhaustive")
