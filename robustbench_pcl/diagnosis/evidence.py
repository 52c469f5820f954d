"""What is asked of a model: attacks on it, each image's verdicts, gradients, repeated passes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.balls import Ball, ball
from robustbench_pcl.attacks.base import Attack, Chunk, Goal, attack_label
from robustbench_pcl.attacks.checks import PROBE, check_logits
from robustbench_pcl.attacks.fast_model import EXACT, Shortcuts
from robustbench_pcl.attacks.gradient_descent import MIM, PGD, GradientDescent
from robustbench_pcl.attacks.losses import AttackLoss
from robustbench_pcl.attacks.passes import Pass, decided
from robustbench_pcl.attacks.runner import IterativeAttack
from robustbench_pcl.attacks.stages import WITHSTOOD, run_all
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.evaluation.statistics import LEVEL, mcnemar
from robustbench_pcl.store.diagnoses import MATERIAL, Competence

FAST = Shortcuts(folded=True, early_stop=True)
"""What does not change a gradient but by rounding: precision is one of the questions."""
Cure = Literal["attack too weak", "saturated", "chosen steps", "flat or rugged"]
"""What an attempt's success would speak for; "chosen steps" are APGD's on the same loss, which tell
that the attack is too weak where nothing is saturated."""
A = TypeVar("A", bound=Attack)


@dataclass(frozen=True, eq=False)
class Trial:
    """What one attempt leaves of the images that are right when clean.

    Attributes:
        title: what it is, as papers write it, without the budget.
        right: boolean (M,), those that are still classified as their label.
        n: all images, those that are wrong when clean among them.
        cures: the reason for too high a number that its success would speak for; None where it
            would speak for none in particular.
    """

    title: str
    right: Tensor
    n: int
    cures: Cure | None = None

    @property
    def left(self) -> float:
        """Accuracy, in per cent of all images."""
        return 100 * int(self.right.sum()) / self.n

    def outdone_by(self, other: Trial) -> bool:
        """The other leaves materially fewer images, and not by chance."""
        chance = mcnemar(self.right.cpu().numpy(), other.right.cpu().numpy())
        return self.left - other.left >= MATERIAL and chance < LEVEL


class Way(NamedTuple):
    """What an attack passes through.

    Attributes:
        margins: float (S + 1, M), the logit margin at its start and after each step.
        fooled: boolean (S + 1, M), where it is positive.
    """

    margins: Tensor
    fooled: Tensor


class Attached(nn.Module):
    """A model with a path from its pixels to its logits along which the gradient is zero.

    An attack by gradients can then be run on a model that has none: it stays where it starts.

    Args:
        model: from images to logits.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """The model's logits."""
        logits: Tensor = self.model(images)
        return logits + 0 * images.flatten(1).sum(dim=1, keepdim=True)


class Evidence:
    """A model and the images that it classifies right, and what attempts on them have left.

    Args:
        target: the model, entered and tried.
        images: float (M, C, H, W) in [0, 1], those that are right when clean.
        labels: int64 (M,).
        n: all images.
        judged: the attack whose number is judged, complete, with a budget.
        seeds: int64 (M,), one per image.
        sources: other models, from which images are transferred, by name.

    Attributes:
        trials: what has been tried within the budget, by title.
        judged_images: float (M, C, H, W), the judged attack's, once it has been tried.
        competence: of attacks on this model, once it has been tested.
    """

    def __init__(
        self,
        target: TargetModel,
        images: Tensor,
        labels: Tensor,
        n: int,
        *,
        judged: Attack,
        seeds: Tensor,
        sources: Mapping[str, nn.Module],
    ) -> None:
        self.target, self.images, self.goal, self.n = target, images, Goal(labels), n
        self.judged_attack, self.seeds, self.sources = judged, seeds, sources
        self.eps: float = getattr(judged, "eps")  # noqa: B009 - of a member of the family
        self.trials: dict[str, Trial] = {}
        self.judged_images = images
        self.competence: tuple[Competence, ...] = ()

    @property
    def chunk(self) -> Chunk:
        """All images, as attacks take them."""
        rows = torch.arange(len(self.images), device=self.images.device)
        return Chunk(rows, self.images, self.goal, self.seeds)

    @property
    def ball(self) -> Ball:
        """In which adversarial images may lie."""
        return ball(self.chunk, self.judged_attack.norm, self.eps)

    def within_budget(self, kind: type[A], **parameters: object) -> A:
        """An attack of the judged one's norm and budget."""
        return kind.complete({"eps": self.eps, "norm": self.judged_attack.norm, **parameters})

    @cached_property
    def judged(self) -> Trial:
        """What the judged attack leaves; its images are kept."""
        return self.attack(self.judged_attack)

    @cached_property
    def plain(self) -> Trial:
        """What Table 2's PGD on cross-entropy leaves, beside which other losses are laid."""
        return self.attack(self.within_budget(PGD), cures="attack too weak")

    @property
    def base(self) -> Attack:
        """The judged attack where it is PGD or its kin; plain PGD in place of longer ones."""
        judged = self.judged_attack
        return judged if isinstance(judged, GradientDescent) else self.within_budget(PGD)

    @property
    def largest_eps(self) -> float:
        """From any image all others are within it."""
        return 1.0 if self.judged_attack.norm == "linf" else float(self.images[0].numel() ** 0.5)

    @property
    def white_box(self) -> Trial:
        """The stronger of the two."""
        return min(self.judged, self.plain, key=lambda trial: trial.left)

    def attack(
        self, attack: Attack, cures: Cure | None = None, *, twin: nn.Module | None = None
    ) -> Trial:
        """What an attack leaves.

        Args:
            attack: within the budget.
            cures: see :class:`Trial`.
            twin: the model in another precision: it makes the gradients, the model the verdicts.
        """
        title = short_label(attack) + (" in float64" if twin else "")
        if title not in self.trials:
            right, made = self.run(attack, twin)
            if attack is self.judged_attack:
                self.judged_images = made
            self.trials[title] = Trial(title, right, self.n, cures)
        return self.trials[title]

    def run(self, attack: Attack, twin: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """Who withstands an attack of any budget, boolean (M,), and its images (M, C, H, W)."""
        if not len(self.images):
            return torch.ones_like(self.goal.labels, dtype=torch.bool), self.images
        if twin is None:
            found = run_all(attack, self.target, self.images, self.goal, self.seeds)
            felled = torch.from_numpy(found.verdicts.felled_by).to(self.images.device)
            return felled == WITHSTOOD, found.images
        made = self.made_on(twin, attack, self.images.double(), FAST)
        return self.withstands(made), made

    def made_on(
        self, model: nn.Module, attack: Attack, images: Tensor, shortcuts: Shortcuts
    ) -> Tensor:
        """An attack's images (M, C, H, W) on another model, in the images' own precision."""
        forwards = self.target.forwards
        with TargetModel(model, shortcuts, say=unsaid, forwards=forwards) as target:
            check_logits(target, images[:PROBE])
            target.classes = self.target.classes
            found = run_all(attack, target, images, self.goal, self.seeds)
        return self.ball.project(found.images.to(self.images))

    def withstands(self, images: Tensor) -> Tensor:
        """Boolean (M,): which of other images (M, C, H, W) are classified as their label."""
        return decided(self.target.logits(images)) == self.goal.labels

    def points(self, title: str, right: Tensor, cures: Cure | None = None) -> Trial:
        """Note what points of the ball leave that no attack on this model has made."""
        self.trials[title] = Trial(title, right, self.n, cures)
        return self.trials[title]

    def transferred(self, name: str) -> Trial:
        """What images made on another model leave: MIM on the margin, all steps."""
        attack = self.within_budget(MIM, loss="margin")
        made = self.made_on(self.sources[name], attack, self.images, EXACT)
        return self.points(f"transfer from {name}", self.withstands(made), "flat or rugged")

    @cached_property
    def way(self) -> Way | None:
        """The way of the judged attack from its start to its last point.

        None for one that does not go step by step, or goes several ways.
        """
        attack, target = self.judged_attack, self.target
        if not isinstance(attack, IterativeAttack) or len(attack.stages(target.classes)) > 1:
            return None
        margins = []
        for rows in torch.split(torch.arange(len(self.images)), target.batch_size):
            chunk = self.chunk[rows]
            state, passed = attack.initialise(target, chunk), []
            for _ in range(attack.steps):
                passed.append(chunk.goal.margin(target.logits(state.adversarial)))
                state, _ = attack.step(target, state)
            passed.append(chunk.goal.margin(target.logits(state.adversarial)))
            margins.append(torch.stack(passed))
        joined = torch.cat(margins, dim=1)
        return Way(joined, joined > 0)

    @cached_property
    def twin(self) -> nn.Module | None:
        """The model's copy in float64; None where it cannot be had or called."""
        try:
            twin = copy.deepcopy(self.target.model).double()
            with TargetModel(twin) as target:
                check_logits(target, self.images[:1].double())
        except Exception:  # a layer that says float32 in so many words
            return None
        return twin

    def gradients(self, loss: AttackLoss, model: nn.Module | None = None) -> Pass:
        """The pass of all images with the gradient of a loss, by the model or its twin."""
        images = self.images if model is None else self.images.double()
        with TargetModel(model or self.target.model, forwards=self.target.forwards) as target:
            parts = [
                target.differentiate(loss, images[rows], self.goal.labels[rows])
                for rows in torch.split(torch.arange(len(images)), target.batch_size)
            ]
        return parts[0].join(parts)


def short_label(attack: Attack) -> str:
    """An attack as papers write it, without its budget."""
    return attack_label({key: value for key, value in attack.dump().items() if key != "eps"})


def unsaid(_: str) -> None:
    """What a target would tell of its shortcuts does not matter here."""
