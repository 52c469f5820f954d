"""Robust accuracy by PGD-10, against torchattacks on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from benchmarks.images import test_images
from benchmarks.interleaved import Work, compare
from benchmarks.peers import TorchattacksPGD
from benchmarks.plain import PLAIN, layouts
from benchmarks.robust import robust
from benchmarks.table import Figure, Goal, Row, at_most
from benchmarks.targets import TITLES
from robustbench_pcl.attacks.fast_model import shortcuts_for
from robustbench_pcl.attacks.gradient_descent import PGD
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.evaluation.evaluate import evaluate
from robustbench_pcl.models.supervised import SupervisedModel
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.recipe import Recipe

IMAGES = 1_000
STEPS, TRIAL_STEPS = 10, 2
BATCHES = (64, 128, 256)
LARGE_BATCHES = (512, 1_000)
"""Tried on an accelerator as well."""
NO_BF16 = ", no bf16"
NO_WEAKER = at_most(0.3, " points")


@dataclass(frozen=True)
class RobustAccuracy:
    """Ours with and without bfloat16 against theirs, on one model.

    Attributes:
        recipe: of the model.
        kind: of model, in words.
        goal: how many times as fast.
        float32_goal: the same without bfloat16.
    """

    recipe: Recipe
    kind: str
    goal: Goal
    float32_goal: Goal

    @property
    def title(self) -> str:
        """What is measured."""
        return f"PGD-{STEPS}, {self.kind} {TITLES[self.recipe.dataset]}"

    def __call__(self, workspace: Workspace, rounds: int) -> Iterator[Row]:
        """Two rows of speed, two of the robust accuracies' difference."""
        model = workspace.model(self.recipe)
        images, labels = test_images(workspace, self.recipe.dataset, IMAGES)
        eps = dataset_spec(self.recipe.dataset).eps
        attack = PGD(eps=eps, steps=STEPS)
        peers = {
            layout: fastest_peer(network, images, labels, eps)
            for layout, network in layouts(model).items()
        }
        fast = replace(shortcuts_for(workspace.device), early_stop=True)
        no_bf16 = replace(fast, precision="float32")
        ways: dict[str, Work] = {
            "": lambda: evaluate(model, images, labels, attack).robust,
            NO_BF16: partial(robust, model, attack, images, labels, no_bf16),
            **{layout: partial(peer, images, labels) for layout, peer in peers.items()},
        }
        runs = compare(ways, rounds)
        reference = percent(runs.results[PLAIN])
        for way, goal in (("", self.goal), (NO_BF16, self.float32_goal)):
            for layout, peer in peers.items():
                rates = f"{runs.rates(way, layout, IMAGES)} (batches of {peer.batch})"
                bound = goal if layout == PLAIN else None
                speed = runs.ratio(layout, way)
                yield Row(self.title + way, f"torchattacks, {layout}", speed, bound, rates)
            own = percent(runs.results[way])
            difference = Figure(own - reference, " points")
            details = f"{own:.1f} % / {reference:.1f} %"
            yield Row(f"its robust accuracy{way}", "torchattacks", difference, NO_WEAKER, details)


def fastest_peer(
    model: SupervisedModel, images: Tensor, labels: Tensor, eps: float
) -> TorchattacksPGD:
    """Torchattacks with the batch size that suits it best."""
    batches = (*BATCHES, *LARGE_BATCHES) if images.is_cuda else BATCHES
    peers = {str(batch): TorchattacksPGD(model, eps, batch, STEPS) for batch in batches}
    count = max(batches)
    trials: dict[str, Work] = {
        batch: partial(replace(peer, steps=TRIAL_STEPS), images[:count], labels[:count])
        for batch, peer in peers.items()
    }
    return peers[compare(trials, 2).fastest]


def percent(verdicts: Tensor) -> float:
    """The share that is true."""
    return 100 * verdicts.double().mean().item()
