"""C&W with 1,000 iterations, against torchattacks and adv-lib with equal settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.attacking import percent
from benchmarks.images import test_images
from benchmarks.interleaved import compare
from benchmarks.peers import adv_lib_cw, torchattacks_cw
from benchmarks.plain import layouts
from benchmarks.table import Figure, Row, at_least, at_most
from benchmarks.targets import TITLES, standard
from robustbench_pcl.attacks.carlini_wagner import CW
from robustbench_pcl.evaluation.evaluate import evaluate
from robustbench_pcl.models.supervised import SupervisedModel
from robustbench_pcl.pipeline.workspace import Workspace

IMAGES, CANDIDATES = 48, 192
STEPS, TRIAL_STEPS = 1_000, 20
PEERS = {"torchattacks": torchattacks_cw, "adv-lib": adv_lib_cw}
TITLE = f"C&W, {STEPS:,} iterations, {IMAGES} images, standard {TITLES['fmnist']}"
Peer = Callable[[nn.Module, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Outcome:
    """What an attack came to, by the model's own answers.

    Attributes:
        fooled: boolean (N,).
        distances: L2, (N,).
    """

    fooled: Tensor
    distances: Tensor

    def __str__(self) -> str:
        median = self.distances[self.fooled].median()
        return f"{percent(self.fooled):.1f} % fooled, median L2 {median:.3f}"


def carlini_wagner(workspace: Workspace, rounds: int) -> Iterator[Row]:
    """Speed against the faster peer, success and distance against the better one."""
    model = workspace.model(standard("fmnist"))
    images, labels = rightly_classified(model, *test_images(workspace, "fmnist", CANDIDATES))
    attack = CW(c=1, steps=STEPS, learning_rate=0.01)
    ways = {
        "ours": lambda: evaluate(model, images, labels, attack).adversarial,
        **{name: fastest_layout(peer, model, images, labels) for name, peer in PEERS.items()},
    }
    runs = compare(ways, rounds)
    found = {way: assess(model, runs.results[way], images, labels) for way in ways}
    faster = min(PEERS, key=runs.median)
    speed = runs.ratio(faster, "ours")
    seconds = ", ".join(f"{way} {runs.median(way):.1f} s" for way in ways)
    yield Row(TITLE, faster, speed, at_least(2.5), seconds)
    outcomes = "; ".join(f"{way} {outcome}" for way, outcome in found.items())
    most = max(PEERS, key=lambda peer: percent(found[peer].fooled))
    more = Figure(percent(found["ours"].fooled) - percent(found[most].fooled), " points")
    yield Row("its success rate", most, more, at_least(0, " points"), outcomes)
    medians = common_medians(found)
    nearest = min(PEERS, key=medians.__getitem__)
    further = Figure(100 * (medians["ours"] / medians[nearest] - 1), " % larger")
    details = ", ".join(f"{way} {median:.4f}" for way, median in medians.items())
    yield Row("its median L2 where all succeed", nearest, further, at_most(0, " %"), details)


def rightly_classified(
    model: SupervisedModel, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """The first so many images that there is something to do about."""
    with torch.no_grad():
        rows = (model(images).argmax(dim=1) == labels).nonzero().flatten()[:IMAGES]
    return images[rows], labels[rows]


def fastest_layout(
    peer: Peer, model: SupervisedModel, images: Tensor, labels: Tensor
) -> Callable[[], Tensor]:
    """A peer's attack in the memory format that suits it best."""
    networks = layouts(model)
    trials = {
        layout: partial(peer, network, images, labels, TRIAL_STEPS)
        for layout, network in networks.items()
    }
    return partial(peer, networks[compare(trials, 2).fastest], images, labels, STEPS)


def assess(model: SupervisedModel, adversarial: Tensor, images: Tensor, labels: Tensor) -> Outcome:
    """What adversarial images are worth."""
    with torch.no_grad():
        fooled = model(adversarial).argmax(dim=1) != labels
    return Outcome(fooled, (adversarial - images).flatten(1).norm(dim=1))


def common_medians(found: dict[str, Outcome]) -> dict[str, float]:
    """Each one's median distance, on the images that all of them fool."""
    all_fooled = torch.stack([outcome.fooled for outcome in found.values()]).all(dim=0)
    return {way: float(outcome.distances[all_fooled].median()) for way, outcome in found.items()}
