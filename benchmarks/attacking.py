"""Robust accuracy by PGD-10, against torchattacks on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
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


SMALL_IMAGES, SMALL_EPS = 128, 0.018
"""A small job: with that budget, 40 % of the images survive."""


@dataclass(frozen=True)
class SmallJob:
    """Few images without bfloat16, where setting up counts.

    Attributes:
        recipe: of the model.
        goal: how many times as fast.
    """

    recipe: Recipe
    goal: Goal
    title: str = f"PGD-{STEPS} of {SMALL_IMAGES} images, ResNet-110 of which 40 % survive{NO_BF16}"

    def __call__(self, workspace: Workspace, rounds: int) -> Iterator[Row]:
        """One row."""
        model = workspace.model(self.recipe)
        images, labels = test_images(workspace, self.recipe.dataset, SMALL_IMAGES)
        attack = PGD(eps=SMALL_EPS, steps=STEPS)
        fast = replace(shortcuts_for(workspace.device), early_stop=True, precision="float32")
        peer = TorchattacksPGD(layouts(model)[PLAIN], SMALL_EPS, SMALL_IMAGES, STEPS)
        ways: dict[str, Work] = {
            "ours": partial(robust, model, attack, images, labels, fast),
            "theirs": partial(peer, images, labels),
        }
        runs = compare(ways, rounds)
        rates = runs.rates("ours", "theirs", SMALL_IMAGES)
        left = " / ".join(f"{percent(runs.results[way]):.1f} %" for way in ways)
        speed = runs.ratio("theirs", "ours")
        yield Row(self.title, f"torchattacks, {PLAIN}", speed, self.goal, f"{rates}, {left}")


CALL_IMAGES = 512


@dataclass(frozen=True)
class PlainCall:
    """``PGD(eps)(model, images, labels)`` on a model as its author wrote it, and its answers.

    Attributes:
        recipe: of the model.
        goal: how many times as fast as torchattacks, every image taking every step.
        exact_goal: the same with ``exact=True``.
    """

    recipe: Recipe
    goal: Goal
    exact_goal: Goal

    @property
    def title(self) -> str:
        """What is measured."""
        return f"the plain call of PGD-{STEPS}, standard {TITLES[self.recipe.dataset]}"

    def __call__(self, workspace: Workspace, rounds: int) -> Iterator[Row]:
        """A row for the call, and one for the exact call."""
        model = layouts(workspace.model(self.recipe))[PLAIN]
        images, labels = test_images(workspace, self.recipe.dataset, CALL_IMAGES)
        eps = dataset_spec(self.recipe.dataset).eps
        peer = fastest_peer(model, images, labels, eps)

        def call(exact: bool) -> Tensor:
            made = PGD(eps=eps, steps=STEPS)(model, images, labels, exact=exact)
            with torch.no_grad():
                found = [model(part).argmax(dim=1) for part in torch.split(made, peer.batch)]
            return torch.cat(found) == labels

        exact_way = ", exact=True"
        runs = compare(
            {
                "": partial(call, False),
                exact_way: partial(call, True),
                PLAIN: partial(peer, images, labels),
            },
            rounds,
        )
        for way, goal in (("", self.goal), (exact_way, self.exact_goal)):
            rates = f"{runs.rates(way, PLAIN, CALL_IMAGES)} (batches of {peer.batch})"
            speed = runs.ratio(PLAIN, way)
            yield Row(self.title + way, f"torchattacks, {PLAIN}", speed, goal, rates)


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
