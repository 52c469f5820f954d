"""Attacks made of several: each stage takes who withstood those before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from robustbench_pcl.attacks.base import Attack, Chunk, Finished, Goal, Stage
from robustbench_pcl.attacks.checks import PROBE, check_adversarial, check_gradient
from robustbench_pcl.attacks.rows import Queue
from robustbench_pcl.errors import InvalidInputError
from robustbench_pcl.lazy import np, torch

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from robustbench_pcl.attacks.target import TargetModel

    Rows = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]

WITHSTOOD, WRONG = -1, -2
"""What stands for a stage where none has felled an image: it withstood all, or was wrong before."""
FEWEST = 100
"""Images that a stage takes at least, however small its share is."""
BLOCK = {"cpu": 128, "cuda": 2500}
"""Images, at most, that are crafted together where several processes may share in a set."""


def in_hexadecimal(felled_by: Rows) -> str:
    """Two digits per image: 00 withstood, 01 was wrong when clean, 02 + k was felled by stage k."""
    codes = np.select([felled_by == WITHSTOOD, felled_by == WRONG], [0, 1], felled_by + 2)
    return codes.astype(np.uint8).tobytes().hex()


@dataclass(eq=False)
class Verdicts:
    """What stages have found up to now, one row per image.

    Which images a stage takes follows from the stages before it alone, so that a run that was
    interrupted comes to the same.

    Args:
        attacked: boolean (N,), which images are attacked at all.

    Attributes:
        felled_by: int64 (N,), the number of the stage that felled an image, or ``WITHSTOOD``, or
            ``WRONG`` where it is not attacked.
        margins: float64 (N,), how near each came to being fooled, as ``Goal.margin`` has it.
        waiting: boolean (N,), who is still to go through the present stage.
    """

    attacked: Mask
    felled_by: Rows = field(init=False)
    margins: Floats = field(init=False)
    waiting: Mask = field(init=False)

    def __post_init__(self) -> None:
        self.felled_by = np.where(self.attacked, WITHSTOOD, WRONG)
        self.margins = np.full(len(self.attacked), -np.inf)
        self.waiting = np.zeros(len(self.attacked), dtype=bool)

    @property
    def left(self) -> Rows:
        """The numbers of those that have withstood up to now."""
        return np.flatnonzero(self.felled_by == WITHSTOOD)

    def begin(self, number: int, stage: Stage, among: Rows | None = None) -> None:
        """Let those wait that a stage takes: of those left, the nearest to being fooled.

        Args:
            number: of the stage.
            stage: it.
            among: int64 (M,), only of these; None for all.
        """
        left = self.left if among is None else among[self.felled_by[among] == WITHSTOOD]
        if stage.after_success and not (self.felled_by == number - 1).any():
            left = left[:0]
        count = max(FEWEST, int(np.ceil(stage.share * len(left))))
        count = min(count, stage.most or count)
        if count < len(left):
            nearest = np.argsort(-self.margins[left], kind="stable")[:count]
            left = np.sort(left[nearest])
        self.waiting[:] = False
        self.waiting[left] = True

    def put(self, number: int, rows: Rows, fooled: Mask, margins: Floats) -> Mask:
        """Note what a stage has found.

        Args:
            number: of the stage.
            rows: int64 (M,), which images.
            fooled: boolean (M,).
            margins: float64 (M,).

        Returns:
            boolean (M,): whose image is the best up to now.
        """
        better = fooled | ~(margins <= self.margins[rows])
        self.felled_by[rows[fooled]] = number
        self.margins[rows] = np.fmax(margins, self.margins[rows])
        self.waiting[rows] = False
        return better


def blocks(count: int, device: str) -> list[Rows]:
    """Images by their numbers, in blocks of equal size that are crafted one by one.

    Which images are passed together decides the last bits of what a model gives, so whoever crafts
    a block, and with which others before it, gets the same images.

    Args:
        count: how many images there are.
        device: its type, "cpu" or "cuda".
    """
    return np.array_split(np.arange(count), -(-count // BLOCK.get(device, BLOCK["cpu"])))


class Found(NamedTuple):
    """Images that have been through a stage.

    Attributes:
        number: of the stage.
        finished: they, judged.
        better: boolean (N,), whose image is the best of all stages up to now.
    """

    number: int
    finished: Finished
    better: Mask


def stages_on(attack: Attack, target: TargetModel, images: Tensor) -> list[Stage]:
    """The stages of an attack that can be run on a model.

    Where no gradient reaches the pixels, that is said, and those without are left.

    Args:
        attack: of one stage or more.
        target: the model, entered and checked.
        images: float (N, C, H, W) in [0, 1], some on which gradients are tried.

    Raises:
        InvalidInputError: none of them does without gradients.
    """
    carried = getattr(target.model, "carried_losses", ())
    stages = [
        stage
        for stage in attack.stages(target.classes)
        if not stage.needs or stage.needs in carried
    ]
    without = [stage for stage in stages if not stage.attack.needs_gradient]
    if attack.needs_gradient or len(without) == len(stages):
        return stages
    try:
        check_gradient(target, images[:PROBE])
    except InvalidInputError as error:
        if not without:
            raise
        target.say(f"Attacked without gradients: {error.cause}")
        return without
    return stages


def run_stage(
    number: int,
    stage: Stage,
    target: TargetModel,
    chunks_of: Callable[[Rows, int], Iterator[Chunk]],
    verdicts: Verdicts,
    *,
    later: int = 0,
) -> Iterator[Found]:
    """Take all that wait through a stage, in any order.

    Args:
        number: of the stage.
        stage: it.
        target: the model, entered.
        chunks_of: images by their numbers, as many at a time as suits, with this added to seeds.
        verdicts: up to now; what is found is noted there.
        later: how many images are to go through it later.
    """
    rows = np.flatnonzero(verdicts.waiting)
    if not len(rows):
        return
    stream = stage.attack.stream(target, chunks_of(rows, stage.seed), len(rows) + later)
    for done in classified(stage.attack, target, stream):
        margins = done.margins
        assert margins is not None  # they are classified
        where, fooled = done.chunk.rows.cpu().numpy(), done.fooled.cpu().numpy()
        better = verdicts.put(number, where, fooled, margins.double().cpu().numpy())
        yield Found(number, done, better)


class Outcome(NamedTuple):
    """What all stages come to.

    Attributes:
        images: float (N, C, H, W), for each the first that fooled, or else the one that came
            nearest to it; the clean one where that is not attacked.
        verdicts: what the stages have found.
        stages: they.
    """

    images: Tensor
    verdicts: Verdicts
    stages: list[Stage]


def run_all(  # noqa: PLR0917
    attack: Attack,
    target: TargetModel,
    images: Tensor,
    goal: Goal,
    seeds: Tensor,
    attacked: Tensor | None = None,
) -> Outcome:
    """Take images that are in memory through all stages.

    Args:
        attack: of one stage or more.
        target: the model, entered and checked.
        images: float (N, C, H, W) in [0, 1].
        goal: what to do to each.
        seeds: int64 (N,), one per image.
        attacked: boolean (N,), which of them; None for all.
    """
    taken = np.ones(len(images), dtype=bool) if attacked is None else attacked.cpu().numpy()
    made, verdicts = images.clone(), Verdicts(taken)

    def chunks_of(rows: Rows, seed: int) -> Iterator[Chunk]:
        for some in torch.split(torch.from_numpy(rows).to(images.device), target.batch_size):
            yield Chunk(some, images[some], goal[some], seeds[some] + seed)

    stages = stages_on(attack, target, images)
    for number, stage in enumerate(stages):
        verdicts.begin(number, stage)
        for found in run_stage(number, stage, target, chunks_of, verdicts):
            better = torch.from_numpy(found.better).to(images.device)
            done = found.finished[better]
            made[done.chunk.rows] = done.images
    return Outcome(made, verdicts, stages)


def classified(
    attack: Attack, target: TargetModel, stream: Iterable[Finished]
) -> Iterator[Finished]:
    """Finished images, checked, and those whose class is not known classified in full batches.

    Raises:
        InvalidInputError: the attack gave what it must not give.
    """
    unknown: Queue[Finished] = Queue()
    for done in chain(stream, (None,)):
        if done is not None:
            check_adversarial(done.images, done.chunk.images, attack)
            if done.predictions is not None:
                yield done
            else:
                unknown.put(done)
        while len(unknown) >= target.batch_size or (unknown and done is None):
            some = unknown.take(target.batch_size)
            yield some.judged(target.logits(some.images))
