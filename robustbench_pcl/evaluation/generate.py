"""Making a stored adversarial set, stage by stage and part by part."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustbench_pcl.attacks.base import Attack, Chunk, Goal, Stage, draw_seeds
from robustbench_pcl.attacks.checks import PROBE, check_model
from robustbench_pcl.attacks.fast_model import EXACT, shortcuts_for
from robustbench_pcl.attacks.stages import (
    WITHSTOOD,
    Found,
    Verdicts,
    blocks,
    run_stage,
    stages_on,
)
from robustbench_pcl.attacks.target import TargetModel
from robustbench_pcl.data.batches import pixels
from robustbench_pcl.data.dataset import Dataset, Split
from robustbench_pcl.environment import current_environment
from robustbench_pcl.progress import Advance, Progress
from robustbench_pcl.store.adversarial_sets import AdversarialSet, SetSpecification
from robustbench_pcl.store.atomic import require_writable
from robustbench_pcl.store.parts import Draft, Part, finish_set, load_parts, save_part

PART = 128
"""Images in a part: what a crash can lose, beside those that are being attacked."""
PENDING = -2
"""The class of an image that is still to be attacked; -1 is that of logits with a NaN."""
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
    with begun(crafting, np.arange(n)) as course:
        course.go_through(blocks(n, crafting.device.type))
        course.finish()
        draft = course.journal.draft(course.stages, crafting.labels)
        course.target.say_blind(int(draft.blind.sum()), n)
    environment = current_environment(crafting.device)
    clean = crafting.dataset.test.images
    return finish_set(crafting.folder, crafting.specification, draft, clean, environment)


def craft_shard(crafting: Crafting, number: int, shards: int) -> None:
    """Make and store, for :func:`generate_set` to go on from, one block of images in so many.

    They are the very images that it would make, up to the first stage that takes only some of
    those that are left.

    Args:
        crafting: what is crafted.
        number: which, from 0.
        shards: one block in how many.
    """
    own = blocks(crafting.specification.n, crafting.device.type)[number::shards]
    if own:
        with begun(crafting, np.concatenate(own)) as course:
            course.go_through(own)


@contextmanager
def begun(crafting: Crafting, rows: Array) -> Iterator[Course]:
    """An attack on some images, by their positions, that is to go through its stages.

    Raises:
        InvalidInputError: the model's answers cannot be judged.
    """
    specification, attack, device = crafting.specification, crafting.attack, crafting.device
    require_writable(crafting.folder)
    n, labels = specification.n, crafting.labels
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
    say = cache(crafting.progress.say)  # once: the next block has the same doubts
    with (
        crafting.progress.task(title, len(rows)) as advance,
        TargetModel(crafting.model, shortcuts, say, forwards=attack.forwards) as target,
    ):
        clean = Clean(crafting.dataset.test, seeds, target, device)
        probe = np.flatnonzero(predictions == PENDING)[:PROBE]
        few = clean.batch(probe if len(probe) else np.arange(min(n, PROBE)))
        check_model(target, *few, gradient=attack.needs_gradient)
        stages = stages_on(attack, target, few[0])
        journal = Journal(crafting.folder, specification.id, target, predictions)
        yield Course(title, target, stages, clean, journal, Shown(stages, n, rows, advance))


@dataclass(frozen=True, eq=False)
class Course:
    """An attack on its way through its stages.

    Attributes:
        title: of the attack.
        target: the model, entered and checked.
        stages: the attack's.
        clean: the clean images.
        journal: what is known of each.
        shown: says how far it is.
    """

    title: str
    target: TargetModel
    stages: list[Stage]
    clean: Clean
    journal: Journal
    shown: Shown

    @property
    def apart(self) -> int:
        """How many stages, from the first, blocks of images go through each by itself."""
        return len(list(takewhile(lambda stage: stage.takes_all, self.stages)))

    def go_through(self, own: Sequence[Array]) -> None:
        """Take blocks of images, by their positions, through those stages, one after the other."""
        later = sum(map(len, own))
        for block in own:
            later -= len(block)
            self.target.forget_fast()
            for number in range(self.apart):
                self._take(number, block, later)

    def finish(self) -> None:
        """Take all images through the other stages, together."""
        self.target.forget_fast()
        for number in range(self.apart, len(self.stages)):
            self._take(number, np.arange(len(self.journal.predictions)))

    def _take(self, number: int, rows: Array, later: int = 0) -> None:
        journal, shown, stage = self.journal, self.shown, self.stages[number]
        journal.begin(number, stage, rows)
        shown(number, journal.verdicts, rows)
        stream = run_stage(
            number, stage, self.target, self.clean.chunks, journal.verdicts, later=later
        )
        with journal.keeping(self.title):
            for found in stream:
                journal.keep(found)
                shown(number, journal.verdicts, rows)


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

    def begin(self, number: int, stage: Stage, among: Array) -> None:
        """Begin a stage, or take it up where an interrupted run left it.

        Args:
            number: of the stage.
            stage: it.
            among: int64 (M,), the images that may go through it.
        """
        self.verdicts.begin(number, stage, among)
        for part in self.stored:
            new = self.verdicts.waiting[part.indices] & (part.stage == number)
            if new.any():
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
        count: how many images there are.
        rows: int64 (N,), those that are attacked here; all of them are done in the end.
        advance: is told what is done.
    """

    def __init__(self, stages: Sequence[Stage], count: int, rows: Array, advance: Advance) -> None:
        costs = [_cost(stage.attack) for stage in stages]
        self.stages, self.advance, self.done, self.total = stages, advance, 0.0, len(rows)
        self.shares = [sum(costs[number:]) / sum(costs) for number in range(len(costs) + 1)]
        self.ahead = np.isin(np.arange(count), rows).astype(np.float64)

    def __call__(self, number: int, verdicts: Verdicts, among: Array) -> None:
        """Show what is known of some in a stage: who is felled has nothing before him."""
        waiting, left = verdicts.waiting[among], verdicts.felled_by[among] == WITHSTOOD
        before = np.where(waiting, self.shares[number], self.shares[number + 1])
        self.ahead[among] = np.where(left, before, 0)
        words = ""
        if len(self.stages) > 1:
            title = self.stages[number].title
            words = f"{number + 1}/{len(self.stages)} {title}, {left.sum()} withstand"
        done = self.total - float(self.ahead.sum())
        self.advance(done - self.done, words)
        self.done = done


def _cost(attack: Attack) -> float:
    """About how much an image costs, in passes forward."""
    return getattr(attack, "steps", 1) * (1 + BACKWARD * attack.needs_gradient)
