"""Large adversarial sets in shards, which several processes craft side by side.

What shards store are parts of the set, as an interrupted run leaves them (``store/parts.py``); the
set's own task goes on from all of them, and so finds little to do. Whoever crafts a set crafts the
same blocks of images one by one, which makes it the same, to the byte, however it was divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from robustbench_pcl.attacks.stages import blocks
from robustbench_pcl.configuration import digest
from robustbench_pcl.environment import has_accelerator
from robustbench_pcl.lazy import LazyModule
from robustbench_pcl.pipeline.artefacts import AnyTask, Artefacts, Task
from robustbench_pcl.pipeline.tasks import Generate, count
from robustbench_pcl.store.atomic import write_bytes

if TYPE_CHECKING:
    from robustbench_pcl.evaluation import generate
else:
    generate = LazyModule("robustbench_pcl.evaluation.generate")


@dataclass(frozen=True)
class Craft(Task[Path]):
    """Craft a shard of an adversarial set; its artefact says that its parts are there.

    Attributes:
        generate: the set's task.
        number: of the shard, from 0.
        shards: how many there are.
    """

    kind: ClassVar[str] = "craft"

    generate: Generate
    number: int
    shards: int

    def __post_init__(self) -> None:
        """Settle what follows; the set, the number and how many there are decide the shard."""
        whole = self.generate
        vars(self).update(
            key=f"craft-{digest([whole.key, self.number, self.shards])}",
            title=f"shard {self.number + 1} of {self.shards}: {whole.title}",
            dataset=whole.dataset,
            needs=whole.needs,
        )

    def find(self, artefacts: Artefacts) -> Path | None:
        """The file that says so, or the set's own where that is finished; or None."""
        whole = self.generate.find(artefacts)
        if whole is not None:
            return whole.path
        done = self._done(artefacts)
        return done if done is not None and done.exists() else None

    def compute(self, artefacts: Artefacts) -> Path:
        """Make the images of it that are not stored yet."""
        generate.craft_shard(self.generate.crafting(artefacts), self.number, self.shards)
        done = self._done(artefacts)
        assert done is not None  # the source is trained by now
        write_bytes(done, b"")
        return done

    def _done(self, artefacts: Artefacts) -> Path | None:
        specification = self.generate.specification(artefacts)
        if specification is None:
            return None
        parts = artefacts.paths.adversarial_sets / f"{specification.id}.parts"
        return parts / f"shard-{self.number + 1}-of-{self.shards}.done"


def sharded(tasks: Sequence[AnyTask], artefacts: Artefacts, shards: int) -> list[AnyTask]:
    """A plan in which large sets are crafted in shards, side by side.

    A randomised model's set stays whole: its random numbers depend on what it passes before.

    Args:
        tasks: in an order that works; data sets are cached.
        artefacts: where their artefacts are.
        shards: how many at most.

    Returns:
        The same tasks, each set that is divided after its shards, which it needs.
    """
    name = artefacts.device_name
    device = "cuda" if has_accelerator() and name != "cpu" else "cpu"
    planned: list[AnyTask] = []
    for task in tasks:
        if isinstance(task, Generate) and task.attack.forwards == 1:
            divisible = blocks(count(artefacts, task.source, task.images), device)
            most = min(shards, len(divisible))
            crafts = [Craft(task, number, most) for number in range(most) if most > 1]
            planned += [*crafts, _after(task, crafts)]
        else:
            planned.append(task)
    return planned


def _after(task: Generate, crafts: Sequence[Craft]) -> Generate:
    """The same set, to be made when its shards are there."""
    joining = replace(task)
    vars(joining).update(needs=(*task.needs, *crafts))
    return joining
