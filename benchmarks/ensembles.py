"""AutoAttack and the strongest attack, against torchattacks' with the published settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.images import test_images
from benchmarks.interleaved import Comparison, in_turn, timed
from benchmarks.peers import TorchattacksAutoAttack
from benchmarks.plain import PLAIN, layouts
from benchmarks.table import Figure, Row, at_least, at_most
from robustbench_pcl.attacks.ensembles import AutoAttack, Strongest
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.evaluation.evaluate import evaluate
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.recipes.load import load_recipe

PEER = "torchattacks' AutoAttack"
TIME = {"auto": at_most(0.33), "strongest": at_most(0.25), "quick": at_most(0.08)}
POINTS = " points"


class Found(NamedTuple):
    """What an attack came to.

    Attributes:
        robust: boolean (N,), which images withstood.
        forward_passes: images passed forward.
        backward_passes: images passed backward.
    """

    robust: Tensor
    forward_passes: int
    backward_passes: int

    @property
    def accuracy(self) -> float:
        """Robust accuracy in per cent."""
        return 100 * self.robust.double().mean().item()

    @property
    def passes(self) -> str:
        """Passes forward and backward for each image that withstood."""
        left = max(int(self.robust.sum()), 1)
        return f"{self.forward_passes / left:,.0f} + {self.backward_passes / left:,.0f}"


@dataclass(frozen=True)
class Case:
    """A model at quick scale, attacked by all of them in one interleaved run.

    Attributes:
        recipe: its name.
        dataset: name of the data set.
        eps: L-infinity budget.
        images: how many test images.
    """

    recipe: str
    dataset: str
    eps: float
    images: int

    @property
    def title(self) -> str:
        """What is attacked."""
        data = dataset_spec(self.dataset).title
        return f"AutoAttack on {self.recipe}, {data}, eps {self.eps:.3g}"

    def __call__(self, workspace: Workspace, rounds: int) -> Iterator[Row]:
        """Rows of time, of robust accuracy, and of how many images have the same verdict."""
        model = workspace.model(load_recipe(self.recipe, self.dataset, "quick"))
        images, labels = test_images(workspace, self.dataset, self.images)
        plain = layouts(model)[PLAIN]
        last: dict[str, Found] = {}

        def keep(way: str, work: Callable[[], Found]) -> None:
            last[way] = work()

        works: dict[str, Callable[[], Found]] = {
            PEER: partial(_theirs, plain, images, labels, self.eps),
            "auto": partial(_ours, plain, AutoAttack(eps=self.eps), images, labels),
            "strongest": partial(_ours, plain, Strongest(eps=self.eps), images, labels),
            "quick": partial(_ours, plain, Strongest(eps=self.eps, budget="quick"), images, labels),
        }
        with torch.no_grad():
            plain(images[:64])  # the first pass of a process is slower
        runs = {way: timed(partial(keep, way, work)) for way, work in works.items()}
        times = Comparison(in_turn(runs, rounds), last)
        theirs = last[PEER]
        for way, goal in TIME.items():
            ratio = times.ratio(way, PEER)
            details = f"{times.median(way):.1f} of {times.median(PEER):.1f} s; passes forward + "
            details += f"backward per survivor {last[way].passes} of {theirs.passes}"
            yield Row(f"{self.title}: time of {way}", PEER, ratio, goal, details)
        yield from self._agreement(last, theirs)

    def _agreement(self, last: dict[str, Found], theirs: Found) -> Iterator[Row]:
        """How far the robust accuracies, and the verdicts, are from each other."""
        auto = last["auto"]
        for way, other, goal in (
            ("auto", theirs, at_most(0.5, POINTS)),
            ("strongest", auto, at_most(0, POINTS)),
            ("quick", auto, at_most(0.3, POINTS)),
        ):
            own = last[way].accuracy
            difference = own - other.accuracy
            shown = Figure(abs(difference) if way == "auto" else difference, POINTS)
            against = PEER if way == "auto" else "auto"
            details = f"{own:.1f} % / {other.accuracy:.1f} %, n = {self.images}"
            yield Row(f"{self.title}: robust accuracy, {way}", against, shown, goal, details)
        same = 100 * (auto.robust == theirs.robust).double().mean().item()
        yield Row(f"{self.title}: same verdict", PEER, Figure(same, " %"), at_least(99, " %"))


CASES = (
    Case("softmax", "fmnist", 0.06, 200),
    Case("ours", "fmnist", 0.06, 200),
    Case("ours-pgd", "fmnist", 0.15, 200),
    Case("madry", "fmnist", 0.2, 200),
    Case("softmax", "cifar10", 2 / 255, 200),
    Case("madry", "cifar10", 8 / 255, 200),
)


def _ours(
    model: nn.Module, attack: AutoAttack | Strongest, images: Tensor, labels: Tensor
) -> Found:
    found = evaluate(model, images, labels, attack)
    return Found(found.robust, found.forward_passes, found.backward_passes)


def _theirs(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Found:
    peer = TorchattacksAutoAttack(model, eps)
    robust = peer(images, labels)
    return Found(robust, peer.forward_passes, peer.backward_passes)
