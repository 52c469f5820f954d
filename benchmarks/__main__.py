"""``python -m benchmarks [--rounds N]``: print the table of ratios as Markdown."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor

from benchmarks.interleaved import Comparison
from robustbench_pcl.attacks import PGD
from robustbench_pcl.data.catalogue import dataset_spec
from robustbench_pcl.losses.supervised import SupervisedModel
from robustbench_pcl.recipes.named import named_recipe
from robustbench_pcl.store.adversarial_sets import Shard, save_shard
from robustbench_pcl.training.assemble import build_model, describe_environment, laid_out

IMAGES = 128
STEPS = 10
TABLE_12 = ("ours", "center", "contrastive", "triplet")


def main() -> None:
    """Run every comparison and print the table, the machine above it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    environment = describe_environment(torch.device("cpu"))
    print(
        f"{environment.device}, {environment.threads} threads, torch {environment.torch}, "
        f"{rounds} rounds, {IMAGES} images\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        comparisons = [
            comparison
            for dataset in ("fmnist", "cifar10")
            for comparison in (
                pgd_against_floor(dataset),
                writing_against_crafting(dataset, Path(folder)),
                *(loss_against_cross_entropy(recipe, dataset) for recipe in TABLE_12),
            )
        ]
        print(
            tabulate(
                [one.row(rounds) for one in comparisons],
                headers="keys",
                tablefmt="github",
                disable_numparse=True,
            )
        )


def pgd_against_floor(dataset: str) -> Comparison:
    """The attack against its passes alone: ten input gradients in plain float32."""
    model, images, labels = _victim("softmax", dataset)
    model.eval()
    return Comparison(
        f"PGD-{STEPS}, {dataset}",
        lambda: PGD(steps=STEPS)(model, images, labels),
        lambda: [_input_gradient(model, images, labels) for _ in range(STEPS)],
        "its forward passes and input gradients",
    )


def writing_against_crafting(dataset: str, folder: Path) -> Comparison:
    """Storing a shard against crafting it."""
    model, images, labels = _victim("softmax", dataset)
    adversarial = PGD(steps=STEPS)(model, images, labels)
    shard = Shard(
        images=adversarial.numpy(),
        indices=torch.arange(IMAGES).numpy(),
        labels=labels.numpy(),
        predictions=labels.numpy(),
        seconds=0.0,
        forward_passes=0,
        backward_passes=0,
    )
    return Comparison(
        f"writing a shard, {dataset}",
        lambda: save_shard(folder, dataset, shard),
        lambda: PGD(steps=STEPS)(model, images, labels),
        f"crafting it by PGD-{STEPS}",
    )


def loss_against_cross_entropy(recipe: str, dataset: str) -> Comparison:
    """A training pass with a distance loss against one without."""
    supervised, images, labels = _victim(recipe, dataset)
    softmax, _, _ = _victim("softmax", dataset)
    return Comparison(
        f"training pass of {recipe}, {dataset}",
        lambda: _training_pass(supervised, images, labels),
        lambda: _training_pass(softmax, images, labels),
        "softmax",
    )


def _victim(recipe: str, dataset: str) -> tuple[SupervisedModel, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    model = laid_out(build_model(named_recipe(recipe, dataset, "quick")), torch.device("cpu"))
    images = torch.rand((IMAGES, *dataset_spec(dataset).shape), generator=generator)
    labels = torch.randint(len(dataset_spec(dataset).classes), (IMAGES,), generator=generator)
    return model, images, labels


def _input_gradient(model: SupervisedModel, images: Tensor, labels: Tensor) -> Tensor:
    images = images.clone().requires_grad_(True)
    loss = F.cross_entropy(model(images), labels, reduction="sum")
    return torch.autograd.grad(loss, images)[0]


def _training_pass(model: SupervisedModel, images: Tensor, labels: Tensor) -> None:
    model.train().zero_grad()
    torch.stack(list(model.step(images, labels).terms.values())).sum().backward()


if __name__ == "__main__":
    main()
