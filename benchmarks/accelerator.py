"""What an accelerator does: an epoch, PGD-10 and PGD-100, and the share of its peak."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.attacking import fastest_peer
from benchmarks.images import test_images
from benchmarks.interleaved import Comparison, Work, compare, timed
from benchmarks.robust import robust
from benchmarks.table import Figure, Goal, Row, at_most
from benchmarks.targets import TITLES
from benchmarks.training import Training
from robustbench_pcl.attacks.fast_model import shortcuts_for
from robustbench_pcl.attacks.gradient_descent import PGD
from robustbench_pcl.data.datasets import dataset_spec
from robustbench_pcl.evaluation.evaluate import evaluate
from robustbench_pcl.models.supervised import SupervisedModel
from robustbench_pcl.pipeline.workspace import Workspace
from robustbench_pcl.recipe import Recipe
from robustbench_pcl.recipes.load import load_recipe

DATASET = "cifar10"
TRAIN_IMAGES, TEST_IMAGES = 50_000, 10_000
FLOP_IMAGES = 64
SIDE, PRODUCTS = 8192, 20
"""Of the matrices whose product measures the peak, and how many products."""


def epoch(workspace: Workspace, rounds: int) -> Iterator[Row]:
    """All of CIFAR-10 once through ResNet-110 with PCL."""
    recipe = load_recipe("ours", DATASET, "paper")
    training = Training(workspace, recipe, TRAIN_IMAGES)
    runs = compare({"epoch": training}, rounds)
    flops = counted(Training(workspace, recipe, FLOP_IMAGES)) * TRAIN_IMAGES / FLOP_IMAGES
    work = f"epoch of {TRAIN_IMAGES:,} images with PCL, {TITLES[DATASET]}"
    details = _share(flops, runs.median("epoch"), workspace.device)
    yield Row(work, "", _seconds(runs, "epoch"), on_h200(workspace, at_most(4, " s")), details)


def attacks(recipe: Recipe, kind: str, workspace: Workspace, rounds: int) -> Iterator[Row]:
    """Robust accuracy on 10,000 images, and what PGD-10 with every step makes of the device."""
    model = workspace.model(recipe)
    images, labels = test_images(workspace, DATASET, TEST_IMAGES)
    eps = dataset_spec(DATASET).eps
    ten, hundred = (PGD(eps=eps, steps=steps) for steps in (10, 100))
    every_step = shortcuts_for(workspace.device)
    theirs = fastest_peer(model, images, labels, eps)
    ways: dict[str, Work] = {
        "PGD-10": partial(evaluate, model, images, labels, ten),
        "PGD-100": partial(evaluate, model, images, labels, hundred),
        "every step": partial(robust, model, ten, images, labels, every_step),
        "theirs": partial(theirs, images, labels),
    }
    runs = compare(ways, rounds)
    network, goal = f"{kind} {TITLES[DATASET]}", on_h200(workspace, at_most(5, " s"))
    for way in ("PGD-10", "PGD-100"):
        work = f"{way} on {TEST_IMAGES:,} images, {network}"
        details = f"{TEST_IMAGES / runs.median(way):,.0f} images/s"
        yield Row(work, "", _seconds(runs, way), goal if way == "PGD-10" else None, details)
    rates = f"{runs.rates('PGD-10', 'theirs', TEST_IMAGES)} (batches of {theirs.batch})"
    yield Row("its PGD-10", "torchattacks", runs.ratio("theirs", "PGD-10"), None, rates)
    few = slice(FLOP_IMAGES)
    flops = counted(partial(_input_gradient, model, images[few], labels[few]))
    total = flops * ten.steps * TEST_IMAGES / FLOP_IMAGES
    share = _share(total, runs.median("every step"), workspace.device)
    yield Row("its PGD-10, every step taken", "", _seconds(runs, "every step"), None, share)


def on_h200(workspace: Workspace, goal: Goal) -> Goal | None:
    """A goal in seconds is one device's."""
    on_cuda = workspace.device.type == "cuda"
    return goal if on_cuda and "H200" in torch.cuda.get_device_name(workspace.device) else None


def counted(work: Work) -> int:
    """The floating-point operations of some work's convolutions and products."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def peak(device: torch.device) -> float:
    """Operations a second of large bfloat16 products, the most that was measured here."""
    one, other = torch.randn(2, SIDE, SIDE, device=device, dtype=torch.bfloat16)

    def multiply() -> None:
        for _ in range(PRODUCTS):
            one @ other

    multiply()
    return 2 * SIDE**3 * PRODUCTS / min(timed(multiply)() for _ in range(3))


def _input_gradient(model: SupervisedModel, images: Tensor, labels: Tensor) -> None:
    images = images.clone().requires_grad_(True)
    logits = model(1 * images)  # no leaf: the counter's hooks want none
    torch.autograd.grad(F.cross_entropy(logits, labels), images)


def _seconds(runs: Comparison, way: str) -> Figure:
    return Figure(runs.median(way), " s", (min(runs.seconds[way]), max(runs.seconds[way])))


def _share(flops: float, seconds: float, device: torch.device) -> str:
    most = peak(device)
    return f"{100 * flops / seconds / most:.1f} % of {most / 1e12:,.0f} TFLOP/s in bf16 products"
