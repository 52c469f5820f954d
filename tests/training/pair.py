"""Trainings that one device and two devices make, and the program that two processes run."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from robustbench_pcl.data.loader import load
from robustbench_pcl.defenses import DEFENSES
from robustbench_pcl.errors import UserError
from robustbench_pcl.losses import LOSSES
from robustbench_pcl.models import MODELS, shares
from robustbench_pcl.models.classifier import Architecture
from robustbench_pcl.progress import Progress
from robustbench_pcl.recipe import AdversarialTraining, Recipe, Schedule
from robustbench_pcl.training import distributed
from robustbench_pcl.training.build import arrays_of
from robustbench_pcl.training.trainer import Run

BASE = Recipe(
    name="softmax",
    scale="demo",
    dataset="digits",
    model="conv6",
    width=0.1,
    train_images=70,  # batches of 33, 33 and 4: shares of two sizes, and of one
    schedule=Schedule(epochs=1, batch_size=33, learning_rate=0.02, precision="float32"),
)
LONGER = BASE.changed(schedule=BASE.schedule.changed(epochs=3))
PGD = AdversarialTraining(attack="pgd", steps=2, relative_step_size=0.5, high=0.1)


def with_loss(name: str, **changes: object) -> dict[str, object]:
    inference = "softmax" if LOSSES[name].with_cross_entropy else "nearest"
    dump = LOSSES.configure(name).dump()
    return {"loss": dump, "feature_layers": (3, 4, 5), "inference": inference, **changes}


def with_defense(name: str, **changes: object) -> dict[str, object]:
    own = {"madry": {"eps": 0.1, "steps": 2}, "ibp": {"warm_up": 0.1, "ramp": 0.3}}.get(name, {})
    defense = DEFENSES.configure(name, own)
    return {"defense": defense.dump(), "members": defense.members, **changes}


RECIPES = {
    name: BASE.changed(name=name, **changes)
    for name, changes in {
        "softmax": {},
        "batch-normalised": {"model": "resnet20"},
        **{name: with_loss(name) for name in LOSSES if name != "cross-entropy"},
        "one-layer": with_loss("contrastive", feature_layers=(3,)),  # others learn nothing
        "algorithm-1": with_loss("pcl", adversarial_training=PGD),
        **{name: with_defense(name) for name in DEFENSES if name != "none"},
        "nearest-madry": with_loss("triplet") | with_defense("madry"),
        "batch-normalised-madry": with_defense("madry", model="resnet20"),
    }.items()
}
"""Every loss, every defence, and some of both."""


def dropping(channels: int, classes: int, width: float) -> Architecture:
    """A network that draws random numbers in train mode."""
    layers = (nn.Sequential(nn.Flatten(), nn.Linear(64, 32)), nn.Dropout(0.5))
    return Architecture(layers=layers, head=nn.Linear(32, classes))


def run(recipe: Recipe, partial: Path | None = None, **options: object) -> Run:
    return Run(
        recipe, load("digits", None), torch.device("cpu"), partial, Progress(), save_seconds=-1,
        **options,
    )  # fmt: skip


def save(file: Path, recipe: Recipe, partial: Path | None = None) -> None:
    """Train, and write weights and history."""
    state = run(recipe, partial).execute()
    numbers = [
        [value for name, value in entry.items() if name not in ("seconds", "warnings")]
        for entry in state.history
    ]
    if not distributed.count() > 1 or torch.distributed.get_rank() == 0:
        np.savez(file, history=np.array(numbers), **arrays_of(state.model))


def differentiated(images: Tensor) -> dict[str, Tensor]:
    """The gradient of a small network's loss and of a penalty on its slope, and its statistics."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 6, 3),
        nn.BatchNorm2d(6, affine=False), nn.Tanh(), nn.Flatten(), nn.Linear(96, 3),
    ).double()  # fmt: skip
    parallel = DistributedDataParallel(shares.Passing(net)) if distributed.count() > 1 else None
    with shares.training(parallel):
        pixels = images.double().requires_grad_(True)
        values = shares.in_shares(net, pixels).square().mean(dim=0).prod()
        (slope,) = torch.autograd.grad(values, pixels, create_graph=True)
        (values + slope.square().sum()).backward()
    gradients = {name: value.grad for name, value in net.named_parameters()}
    return {"slope": slope.detach(), **gradients, **dict(net.named_buffers())}


def some(count: int) -> Tensor:
    return torch.rand((count, 1, 8, 8), generator=torch.Generator().manual_seed(count))


def kill_in_third_epoch(_: nn.Module, epoch: int) -> None:
    if epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, part: str) -> None:
    torch.set_num_threads(1)
    with distributed.joined(2, "cpu") as rank:
        if part == "killed":
            kill = (
                (lambda _, epoch: epoch == 2 and os.kill(os.getpid(), signal.SIGKILL))
                if rank
                else None
            )
            run(LONGER, None if rank else folder / "killed.partial", after_epoch=kill).execute()
        for name, recipe in RECIPES.items():
            save(folder / f"{name}.npz", recipe)
        save(folder / "resumed.npz", LONGER, None if rank else folder / "one.partial")
        run(LONGER, None if rank else folder / "two.partial").execute()
        for count in (7, 1):
            found = differentiated(some(count))
            np.savez(folder / f"differentiated-{count}-{rank}.npz", **found)
        MODELS.add("dropping", f"{__name__}:dropping")  # this file, whatever runs it
        try:
            run(BASE.changed(model="dropping")).execute()
        except (UserError, SystemExit) as error:
            (folder / f"refused-{rank}").write_text(str(error), encoding="utf-8")
        if rank:
            assert distributed.Announcement.received(torch.device("cpu")) is None


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
