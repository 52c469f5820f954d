"""Making a stored adversarial set, stage by stage and part by part."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.base import Attack, Chunk, Goal, Stage, draw_seeds
from robustbench_pcl.attacks.checks import PROBE, check_finite, check_model
from robustbench_pcl.attacks.fast_model import EXACT, shortcuts_for
from robustbench_pcl.attacks.losses import logit_margin
from robustbench_pcl.attacks.stages import Found, Verdicts, run_stage, stages_on
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.data.batches import pixels
from robustbench_pcl.data.dataset import Dataset, Split
from robustbench_pcl.environment import current_environment
from robustbench_pcl.errors import RandomisedModelError
from robustbench_pcl.progress import Advance, Progress
from robustbench_pcl.store.adversarial_sets import AdversarialSet, SetSpecification
from robustbench_pcl.store.atomic import require_writable
from robustbench_pcl.store.parts import Draft, Part, finish_set, load_parts, save_part

PART = 128
"""Images in a part: what a crash can lose, beside those that are being attacked."""
BATCH = 256
"""Images that are classified at once."""
FORWARDS = 20
"""Passes of a randomised model whose mean is its answer, as many as AutoAttack's "rand" makes."""
PENDING = -2
"""The class of an image that is still to be attacked; -1 is that of logits with a NaN."""
ELSEWHERE = -3
"""That of an image that another process attacks."""
BACKWARD = 2
"""A pass backward in passes forward."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Crafting:
    """What is crafted, and where it goes.

    Attributes:
        model: the source, on the device.
        attack: the attack.
        specification: what the set is made from.
        dataset: the clean images; the first of the test split are attacked.
        folder: of the stored sets.
        device: where the model is.
        progress: the progress reporter.
        clean_predictions: int64 (n,), the source's classes of the clean images; those that it has
            wrong are left as they are. None to attack all.
    """

    model: nn.Module
    attack: Attack
    specification: SetSpecification
    dataset: Dataset
    folder: Path
    device: torch.device
    progress: Progress
    clean_predictions: Array | None = None

    @property
    def labels(self) -> Array:
        """int64 (n,), of the clean images."""
        return np.array(self.dataset.test.labels[: self.specification.n])


def generate_set(crafting: Crafting) -> AdversarialSet:
    """Make the images that are not stored yet; return the finished set."""
    n = crafting.specification.n
    journal, stages = _crafted(crafting, np.arange(n))
    draft = journal.draft(stages, crafting.labels)
    journal.target.say_blind(int(draft.blind.sum()), n)
    environment = current_environment(crafting.device)
    clean = crafting.dataset.test.images
    return finish_set(crafting.folder, crafting.specification, draft, clean, environment)


def craft_shard(crafting: Crafting, number: int, shards: int) -> None:
    """Make and store, for :func:`generate_set` to join, one image in so many.

    They are the very images that it would make: no image's result depends on the others', up to
    the first stage that takes only some of those that are left.

    Args:
        crafting: what is crafted.
        number: which, from 0.
        shards: one image in how many.
    """
    _crafted(crafting, np.arange(number, crafting.specification.n, shards))


def _crafted(crafting: Crafting, rows: Array) -> tuple[Journal, list[Stage]]:
    """Take images by their positions, ascending, through all stages; through the first, if some."""
    specification, attack, device = crafting.specification, crafting.attack, crafting.device
    require_writable(crafting.folder)
    n, test, labels = specification.n, crafting.dataset.test, crafting.labels
    predictions = np.full(n, PENDING)
    if (classes := crafting.clean_predictions) is not None:
        predictions = np.where(classes == labels, PENDING, classes)
    shortcuts = EXACT
    if specification.mode != "exact":
        early_stop = specification.mode == "early-stop"
        shortcuts = replace(shortcuts_for(device), early_stop=early_stop)
    seeds = draw_seeds(n, torch.Generator().manual_seed(specification.seed))
    assert specification.source is not None  # only images crafted elsewhere have none
    title = f"{attack.label} on {specification.source.recipe.name}"
    progress = crafting.progress
    with (
        progress.task(title, len(rows)) as advance,
        TargetModel(crafting.model, shortcuts, progress.say, forwards=attack.forwards) as target,
    ):
        clean = Clean(test, seeds, target, device)
        probe = np.flatnonzero(predictions == PENDING)[:PROBE]
        few = clean.batch(probe if len(probe) else np.arange(min(n, PROBE)))
        check_model(target, *few, gradient=attack.needs_gradient)
        stages = stages_on(attack, target, few[0])
        if len(rows) < n:
            predictions[np.setdiff1d(np.arange(n), rows)] = ELSEWHERE
            stages = list(takewhile(lambda stage: stage.takes_all, stages))
        journal = Journal(crafting.folder, specification.id, target, predictions)
        shown = Shown(stages, len(rows), advance)
        for number, stage in enumerate(stages):
            journal.begin(number, stage)
            shown(number, journal.verdicts)
            for found in run_stage(number, stage, target, clean.chunks, journal.verdicts):
                journal.keep(found)
                shown(number, journal.verdicts)
            journal.store()
    return journal, stages


def clean_answers(
    model: nn.Module, dataset: Dataset, n: int, device: torch.device
) -> tuple[Array, Array]:
    """The model's answers to the first ``n`` clean test images, in eval mode.

    Returns:
        its classes, int64 (n,).
        its logit margins, float64 (n,): the label's logit less the largest other.

    Raises:
        InvalidInputError: its answers cannot be judged, or some of its logits are not finite.
    """
    images = torch.from_numpy(np.array(dataset.test.images[:n]))
    every = torch.from_numpy(np.array(dataset.test.labels[:n])).to(device)
    classes, margins = [], []
    with judging(model, pixels(images[:PROBE].to(device)), every[:PROBE]) as target:
        # A batch of floats at a time: memory is flat in n.
        for batch, labels in zip(
            torch.split(images, BATCH), torch.split(every, BATCH), strict=True
        ):
            logits = target.logits(pixels(batch.to(device)))
            check_finite(logits, "clean images")
            classes.append(logits.argmax(dim=1).cpu())
            margins.append(-logit_margin(logits.double(), labels).cpu())
    return torch.cat(classes).numpy(), torch.cat(margins).numpy()


@contextmanager
def judging(model: nn.Module, images: Tensor, labels: Tensor) -> Iterator[TargetModel]:
    """A model whose answers can be counted; a randomised one's are the mean of ``FORWARDS``.

    Args:
        model: to be judged.
        images: float (N, C, H, W) in [0, 1], some on which it is tried.
        labels: int64 (N,).

    Raises:
        InvalidInputError: its answers cannot be judged.
    """
    forwards = 1
    try:
        with TargetModel(model) as target:
            check_model(target, images, labels, gradient=False)
    except RandomisedModelError:
        forwards = FORWARDS
    with TargetModel(model, forwards=forwards) as target:
        yield target


@dataclass(frozen=True, eq=False)
class Clean:
    """The clean images, some at a time.

    Attributes:
        split: all of them.
        seeds: int64 (n,), of the random starts.
        target: says how many are passed at once.
        device: where they go.
    """

    split: Split
    seeds: Tensor
    target: TargetModel
    device: torch.device

    def batch(self, rows: Array) -> tuple[Tensor, Tensor]:
        """Images float (N, C, H, W) in [0, 1] and their labels, by their positions, ascending."""
        images = torch.from_numpy(np.array(self.split.images[rows])).to(self.device)
        return pixels(images), torch.from_numpy(np.array(self.split.labels[rows])).to(self.device)

    def chunks(self, rows: Array, seed: int) -> Iterator[Chunk]:
        """Those at some positions, with ``seed`` added to each one's own."""
        size = self.target.batch_size
        for some in np.split(rows, range(size, len(rows), size)):
            images, labels = self.batch(some)
            where = torch.from_numpy(some)
            seeds = (self.seeds[where] + seed).to(self.device)
            yield Chunk(where.to(self.device), images, Goal(labels), seeds)


@dataclass(eq=False)
class Journal:
    """What is known of each image, stored part by part.

    Args:
        folder: of the stored sets.
        identity: of the set.
        target: the model that counts the passes.
        predictions: int64 (N,), the source's classes of images that are not attacked, ``PENDING``
            for those that are; then those of the best adversarial images.

    Attributes:
        verdicts: what the stages have found.
        parts: those that are stored.
        blind: boolean (N,), whose gradient was not finite in any pixel, in some pass.
        part: int64 (N,), the number of the part that holds an image; -1 for a clean one.
        position: int64 (N,), where it is among the part's images.
        open: what is found and not stored.
        spent: seconds, and images passed forward and backward, up to the last part stored.
        stored: the parts of an interrupted run.
    """

    folder: Path
    identity: str
    target: TargetModel
    predictions: Array
    verdicts: Verdicts = field(init=False)
    parts: list[Part] = field(default_factory=list, init=False)
    blind: Array = field(init=False)
    part: Array = field(init=False)
    position: Array = field(init=False)
    open: list[Found] = field(default_factory=list, init=False)
    spent: tuple[float, int, int] = field(init=False)
    stored: list[Part] = field(init=False)

    def __post_init__(self) -> None:
        self.verdicts = Verdicts(self.predictions == PENDING)
        self.part, self.position = np.full((2, len(self.predictions)), -1)
        self.blind = np.zeros(len(self.predictions), dtype=bool)
        self.spent = (time.perf_counter(), 0, 0)
        self.stored = load_parts(self.folder, self.identity, self.target.say)

    def begin(self, number: int, stage: Stage) -> None:
        """Begin a stage, or take it up where an interrupted run left it."""
        self.verdicts.begin(number, stage)
        for part in self.stored:
            if part.stage == number:
                new = self.verdicts.waiting[part.indices]
                rows = part.indices[new]
                self.verdicts.put(number, rows, part.fooled[new], part.margins[new])
                self._note(part, new)

    def keep(self, found: Found) -> None:
        """Take what a stage has found; it is stored once there is enough of it."""
        self.open.append(found)
        if sum(len(each.finished) for each in self.open) >= PART:
            self.store()

    @contextmanager
    def keeping(self, title: str) -> Iterator[None]:
        """Store what a stage has found when the block ends or is interrupted."""
        try:
            yield
            self.store()
        except KeyboardInterrupt as interrupt:
            self.store()
            interrupt.add_note(f"of {title} the images that are done are kept")
            raise

    def store(self) -> None:
        """Store what is found and not stored, with what it has cost."""
        if not self.open:
            return
        finished = self.open[0].finished.join([found.finished for found in self.open])
        better = np.concatenate([found.better for found in self.open])
        assert finished.predictions is not None  # they are judged
        assert finished.margins is not None
        rows = finished.chunk.rows.cpu().numpy()
        before, target = self.spent, self.target
        now = (time.perf_counter(), target.forward_passes, target.backward_passes)
        part = Part(
            stage=self.open[0].number,
            indices=rows,
            predictions=finished.predictions.cpu().numpy(),
            margins=finished.margins.double().cpu().numpy(),
            fooled=finished.fooled.cpu().numpy(),
            better=better,
            blind=np.isin(rows, list(target.blind)),
            images=finished.images.float().cpu().numpy()[better],
            seconds=now[0] - before[0],
            forward_passes=now[1] - before[1],
            backward_passes=now[2] - before[2],
            precision=target.shortcuts.precision,
        )
        stored = save_part(self.folder, self.identity, part)
        self.open, self.spent = [], now
        self._note(stored, np.ones(len(rows), dtype=bool))

    def _note(self, part: Part, new: Array) -> None:
        """Remember where images are; ``new``, boolean (N,), says which of a part's count."""
        rows, kept = part.indices[new & part.better], np.cumsum(part.better) - 1
        self.part[rows] = len(self.parts)
        self.position[rows] = kept[new & part.better]
        self.predictions[rows] = part.predictions[new & part.better]
        self.blind[part.indices[new]] |= part.blind[new]
        self.parts.append(part)

    def draft(self, stages: Sequence[Stage], labels: Array) -> Draft:
        """The set, ready to be joined.

        Args:
            stages: all of them, done.
            labels: int64 (N,).
        """
        withstood = np.isin(np.arange(len(labels)), self.verdicts.left)
        return Draft(
            stages=tuple(stage.title for stage in stages),
            labels=labels,
            predictions=self.predictions,
            felled_by=self.verdicts.felled_by,
            blind=self.blind & withstood,
            parts=self.parts,
            part=self.part,
            position=self.position,
        )


class Shown:
    """How far a run is: which stage, how many withstand, and what is done of all there is to do.

    Args:
        stages: all of them.
        total: what is done in the end: the number of images.
        advance: is told what is done.
    """

    def __init__(self, stages: Sequence[Stage], total: int, advance: Advance) -> None:
        costs = [_cost(stage.attack) for stage in stages]
        self.stages, self.total, self.advance, self.done = stages, total, advance, 0.0
        self.ahead = [sum(costs[number:]) / sum(costs) for number in range(len(costs) + 1)]

    def __call__(self, number: int, verdicts: Verdicts) -> None:
        """Show what is known in a stage: who is felled has nothing before him."""
        left, waiting = len(verdicts.left), int(verdicts.waiting.sum())
        ahead = waiting * self.ahead[number] + (left - waiting) * self.ahead[number + 1]
        words = ""
        if len(self.stages) > 1:
            words = f"{number + 1}/{len(self.stages)} {self.stages[number].title}, {left} withstand"
        done = self.total - ahead
        self.advance(done - self.done, words)
        self.done = done


def _cost(attack: Attack) -> float:
    """About how much an image costs, in passes forward."""
    return getattr(attack, "steps", 1) * (1 + BACKWARD * attack.needs_gradient)
