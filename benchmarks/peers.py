"""Other libraries' attacks, called as their users call them."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_pcl.errors import UserError


def peer(name: str) -> Any:
    """Another library's module.

    Raises:
        UserError: it is not installed.
    """
    # adv-lib imports visdom, which draws its curves, but attacks without it.
    sys.modules.setdefault("visdom", ModuleType("visdom"))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed.", "nox -s bench installs it.") from error


@dataclass(frozen=True)
class TorchattacksPGD:
    """Robust accuracy by torchattacks: PGD batch by batch, then the model's answers.

    Attributes:
        model: in eval mode.
        eps: L-infinity budget.
        batch: images per batch.
        steps: of eps/4.
    """

    model: nn.Module
    eps: float
    batch: int
    steps: int = 10

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Boolean (N,): which adversarial images are still classified right."""
        torch.manual_seed(0)
        attack = torchattacks_pgd(self.model, self.eps, self.steps, self.eps / 4)
        right = []
        batches = (torch.split(values, self.batch) for values in (images, labels))
        for part, own in zip(*batches, strict=True):
            adversarial = attack(part, own)
            with torch.no_grad():
                right.append(self.model(adversarial).argmax(dim=1) == own)
        return torch.cat(right)


def torchattacks_pgd(model: nn.Module, eps: float, steps: int, step_size: float) -> Any:
    """Its PGD from a random start, (images, labels) -> adversarial images."""
    library = peer("torchattacks")
    return library.PGD(model, eps=eps, alpha=step_size, steps=steps, random_start=True)


def torchattacks_cw(model: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Its C&W attack with c = 1 and rate 0.01."""
    attack = peer("torchattacks").CW(model, c=1, kappa=0, steps=steps, lr=0.01)
    adversarial: Tensor = attack(images, labels)
    return adversarial


def adv_lib_cw(model: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Its C&W attack with the same settings: one value of c."""
    adversarial: Tensor = peer("adv_lib.attacks").carlini_wagner_l2(
        model,
        images,
        labels,
        learning_rate=0.01,
        initial_const=1.0,
        binary_search_steps=1,
        max_iterations=steps,
    )
    return adversarial


class TorchattacksAutoAttack:
    """AutoAttack by torchattacks with its published settings: its defaults make 10 steps of 100.

    Args:
        model: in eval mode.
        eps: L-infinity budget.

    Attributes:
        forward_passes: images passed forward.
        backward_passes: images whose input gradient was taken, as far as a pass tells.
    """

    BATCH = 256
    STEPS, QUERIES, CLASSES = 100, 5000, 10

    def __init__(self, model: nn.Module, eps: float) -> None:
        self.model = model
        self.forward_passes = self.backward_passes = 0
        library = peer("torchattacks")
        own = {"eps": eps, "norm": "Linf", "seed": 0, "n_restarts": 1}
        targets = {"n_classes": self.CLASSES, "steps": self.STEPS}
        self.attack = library.MultiAttack(
            [
                library.APGD(model, **own, steps=self.STEPS, loss="ce"),
                library.APGDT(model, **own, **targets),
                library.FAB(model, **own, **targets, multi_targeted=True),
                library.Square(model, **own, n_queries=self.QUERIES),
            ]
        )

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Boolean (N,): which images are right when clean, and withstand."""
        torch.manual_seed(0)
        hook = self.model.register_forward_pre_hook(self._count)
        try:
            parts = [torch.split(values, self.BATCH) for values in (images, labels)]
            return torch.cat([self._robust(*part) for part in zip(*parts, strict=True)])
        finally:
            hook.remove()

    def _robust(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            right = self.model(images).argmax(dim=1) == labels
        attacked = self.attack(images[right], labels[right])
        with torch.no_grad():
            right[right.clone()] = self.model(attacked).argmax(dim=1) == labels[right]
        return right

    def _count(self, _model: nn.Module, given: tuple[Tensor, ...]) -> None:
        self.forward_passes += len(given[0])
        if torch.is_grad_enabled() and given[0].requires_grad:
            self.backward_passes += len(given[0])
