"""What every attack shares: what is asked of it, what it gives back, its call, its name."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import model_validator

from robustbench_pcl.attacks.checks import check_adversarial, check_images, check_model
from robustbench_pcl.attacks.fast_model import EXACT, shortcuts_for
from robustbench_pcl.attacks.losses import logit_margin
from robustbench_pcl.attacks.passes import decided
from robustbench_pcl.attacks.rows import Rows
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.configuration import Configuration, Count, Scalar, later, parse_eps
from robustbench_pcl.lazy import torch
from robustbench_pcl.registry import ConfigurationFamily

if TYPE_CHECKING:
    from torch import Tensor, nn

Norm = Literal["linf", "l2"]


@dataclass(frozen=True, eq=False)
class Goal(Rows):
    """What an attack wants of each image.

    Attributes:
        labels: int64 (N,), the classes to move away from, or the ones to reach.
        targeted: the labels are to be reached.
        eps: float (N,), each image's budget; None for the attack's own.
    """

    labels: Tensor
    targeted: bool = False
    eps: Tensor | None = None

    def reached(self, predictions: Tensor) -> Tensor:
        """Boolean (N,): whose predicted class, int64 (N,), is what the attacker wants."""
        return (predictions == self.labels) == self.targeted

    def margin(self, logits: Tensor) -> Tensor:
        """How far logits (N, K) are beyond what the attacker wants, (N,): positive if reached."""
        margin = logit_margin(logits, self.labels)
        return -margin if self.targeted else margin


@dataclass(frozen=True, eq=False)
class Chunk(Rows):
    """Images that come together.

    Attributes:
        rows: int64 (N,), which they are among all.
        images: float (N, C, H, W) in [0, 1], clean.
        goal: what to do to each.
        seeds: int64 (N,), one per image.
    """

    rows: Tensor
    images: Tensor
    goal: Goal
    seeds: Tensor


@dataclass(frozen=True, eq=False)
class Finished(Rows):
    """Images that are done.

    Attributes:
        chunk: what was asked.
        images: float (N, C, H, W) in [0, 1], adversarial.
        predictions: int64 (N,), the reference model's classes of them, -1 for logits with a NaN;
            None where they are not known.
        margins: float (N,), its logit margins there, as ``Goal.margin`` has them; None likewise.
    """

    chunk: Chunk
    images: Tensor
    predictions: Tensor | None = None
    margins: Tensor | None = None

    @property
    def fooled(self) -> Tensor:
        """Boolean (N,): which of them are what the attacker wants; they are judged."""
        assert self.predictions is not None
        return self.chunk.goal.reached(self.predictions)

    def judged(self, logits: Tensor) -> Self:
        """The same with the verdicts that follow from the reference model's logits (N, K)."""
        margins = self.chunk.goal.margin(logits)
        return replace(self, predictions=decided(logits), margins=margins)


@dataclass(frozen=True)
class Stage:
    """One of the attacks that an attack is made of; each takes only who withstood those before.

    Attributes:
        attack: a single attack, the only stage of itself.
        title: what people read while it runs and beside whom it felled.
        seed: added to each image's seed, so that restarts start elsewhere.
        share: of those that are left, the ones that came nearest to being fooled; 1 for all.
        most: so many of them at most.
        after_success: it is run only if the stage before has felled an image.
        needs: name of a loss that the model has to carry; "" for none.
    """

    attack: Attack
    title: str
    seed: int = 0
    share: float = 1.0
    most: int | None = None
    after_success: bool = False
    needs: str = ""

    @property
    def takes_all(self) -> bool:
        """Whether it takes all that are left, so that no image decides about another's attack."""
        return self.share == 1 and self.most is None and not self.after_success


def starts(once: Attack, count: int) -> tuple[Stage, ...]:
    """The stages of an attack that starts ``count`` times, from random points of its own each."""
    if count == 1:
        return (Stage(once, once.label),)
    return tuple(
        Stage(once, f"{once.label}, start {start + 1} of {count}", start) for start in range(count)
    )


class Attack(Configuration):
    """An attack is its parameters; calling it makes adversarial images.

    A member of the family has a field with a default and a description for each parameter. One
    that goes step by step is an :class:`~robustbench_pcl.attacks.runner.IterativeAttack`; one that
    does all at once writes :meth:`perturb`.

    Attributes:
        title: how papers call it, where that is not the name of the class.
        early_stop: where only the verdict is asked, an image may leave at its first fooling.
        needs_gradient: it cannot attack a model through which no gradient reaches the pixels.
    """

    title: ClassVar[str] = ""
    early_stop: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = True

    norm: Norm = later("linf", "of the perturbation that it bounds or minimises: linf or l2")
    forwards: Count = later(1, "passes whose mean is an answer of a randomised model")

    @model_validator(mode="after")
    def _within_the_pixels(self) -> Self:
        """Refuse an L-infinity budget above 1, which is 8 written for 8/255."""
        if self.norm == "linf" and "eps" in type(self).model_fields:
            parse_eps(getattr(self, "eps"))  # noqa: B009 - a member's field
        return self

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        targets: Tensor | None = None,
        generator: torch.Generator | None = None,
        exact: bool = False,
    ) -> Tensor:
        """Return adversarial images, of the shape, type and device of ``images``.

        Every image takes all steps. The model is attacked in eval mode and left as it was.

        Args:
            model: maps images to logits (N, K); normalisation, if any, is inside it.
            images: float (N, C, H, W) in [0, 1].
            labels: int64 (N,), true classes.
            targets: int64 (N,), the classes to reach; None for an untargeted attack.
            generator: of the random start, on the CPU. Each image draws a seed of its own from
                it, so the result does not depend on how images are cut into batches.
            exact: make every gradient with the model itself, not with a fast copy of it. Of
                images on which the two do not answer alike, it makes all gradients anyway.

        Raises:
            InvalidInputError: images, labels or the model are not what can be attacked.
        """
        check_images(images, labels, targets)
        images = images.detach()
        if not len(images):
            return images.clone()
        seeds = draw_seeds(len(images), generator or torch.Generator().manual_seed(0))
        shortcuts = EXACT if exact else shortcuts_for(images.device)
        with TargetModel(model, shortcuts, forwards=self.forwards) as target:
            check_model(target, images, labels, targets, gradient=self.needs_gradient)
            goal = Goal((labels if targets is None else targets).clone(), targets is not None)
            adversarial = self.perturb(target, images, goal, seeds.to(images.device))
            check_adversarial(adversarial, images, self)
            target.warn_of_blind_images(adversarial, labels)
            return adversarial

    def stages(self, classes: int) -> tuple[Stage, ...]:  # noqa: ARG002 - for members
        """The single attacks that it is made of, in their order; by default itself.

        Args:
            classes: how many the model has: there are that many targets less one.
        """
        return (Stage(self, self.label),)

    @abstractmethod
    def perturb(self, target: TargetModel, images: Tensor, goal: Goal, seeds: Tensor) -> Tensor:
        """Make adversarial images (N, C, H, W); no image's result may depend on the others.

        Args:
            target: the model, in eval mode, its parameters without gradients.
            images: float (N, C, H, W) in [0, 1].
            goal: what to do to each.
            seeds: int64 (N,), one per image.
        """

    def stream(
        self,
        target: TargetModel,
        chunks: Iterator[Chunk],
        total: int,  # noqa: ARG002 - for members
    ) -> Iterator[Finished]:
        """Make adversarial images of many, as they come; they leave in any order.

        Args:
            target: the model, entered.
            chunks: the images, some hundreds at a time, so that memory is flat in their number.
            total: how many there are.
        """
        for chunk in chunks:
            yield Finished(chunk, self.perturb(target, chunk.images, chunk.goal, chunk.seeds))

    @property
    def label(self) -> str:
        """As papers write it, with every parameter that is not the default."""
        return attack_label(self.dump())


ATTACKS: ConfigurationFamily[Attack] = ConfigurationFamily("attack", {})
"""All attacks by name; see the package for where each is."""

STEP_SIZE = "relative_step_size"
"""The parameter whose default goes as far in all, whatever the number of steps."""
PARAMETERS = {
    "loss": "{}",
    "steps": "{}",
    "norm": "{}",
    "rank": "target {}",
    "target_class": "towards the {} class",
    "relative_step_size": "step {} eps",
    "search_steps": "{} search steps",
    "file": "{}",
}
"""How parameters are written in a label, where not as "name value"."""
UNSAID = ("name", "digest")
"""Keys that a label does not name by themselves."""
BUDGETS = ("eps", "c")
"""Parameters that a label names also where they are the default."""


def attack_label(dump: Mapping[str, Scalar]) -> str:
    """An attack as papers write it, with every parameter that is not the default.

    "PGD-100, eps 0.2", "FGSM, eps 8/255", "PGD on margin, eps 0.1", "C&W, c 10, 100 steps".

    Args:
        dump: the attack's name and parameters; one that is left out is not named. The attack may
            be of a plugin that is not loaded: then all parameters are named.
    """
    name = str(dump["name"])
    title, defaults = name, dict[str, Any]()
    if name in ATTACKS:
        member = ATTACKS[name]
        title = member.title or member.__name__
        defaults = {key: field.default for key, field in member.model_fields.items()}
        if STEP_SIZE in defaults and "steps" in {*dump} & {*defaults}:
            # What follows from the number of steps is not worth a word.
            defaults[STEP_SIZE] *= defaults["steps"] / float(dump["steps"])
    words: dict[str, str] = {}
    for key, value in dump.items():
        unchanged = key in defaults and value == defaults[key]
        if key == STEP_SIZE and key in defaults:
            unchanged = math.isclose(float(value), defaults[key])
        if key in UNSAID or (unchanged and key not in BUDGETS):
            continue
        shown = str(value)
        if isinstance(value, float):
            shown, grey_levels = f"{value:g}", 255 * value
            if key == "eps" and len(shown) > 5 and math.isclose(grey_levels, round(grey_levels)):
                shown = f"{grey_levels:.0f}/255"
        words[key] = PARAMETERS.get(key, f"{key.replace('_', ' ')} {{}}").format(shown)
    if "steps" in words and "eps" in words | defaults:
        title += f"-{words.pop('steps')}"
    elif "steps" in words:
        words["steps"] += " steps"
    if "loss" in words:
        title += f" on {words.pop('loss')}"
    budgets = [words.pop(key) for key in BUDGETS if key in words]
    return ", ".join([title, *budgets, *words.values()])


def norm_of(dump: Mapping[str, Scalar]) -> str:
    """The norm of an attack as it is stored, also where its plugin is not loaded."""
    name = str(dump["name"])
    default = ATTACKS[name].model_fields["norm"].default if name in ATTACKS else "linf"
    return str(dump.get("norm", default))


def draw_seeds(count: int, generator: torch.Generator) -> Tensor:
    """One seed per image, int64 (count,)."""
    return torch.randint(2**62, (count,), generator=generator)
