"""Every model of the zoo with images, labels and a budget with which some images are fooled.

Architectures that people bring are in ``zoo_architectures``, odd models and images in ``zoo_odd``;
``pgd`` and ``OTHERS`` are what the zoo is attacked with.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from attack_toys import predictions, some_wrong
from torch import Tensor, nn
from zoo_architectures import ARCHITECTURES, CLASSES, pictures
from zoo_odd import ODD, Odd
from zoo_odd_models import simple

from robustbench_pcl.attacks import BIM, FGSM, MIM, PGD
from robustbench_pcl.attacks.base import Attack

REFUSED = [name for name, odd in ODD.items() if odd.expectation is not None]
"""Odd models that are answered with an error."""
TAKEN = [*ARCHITECTURES, *(name for name in ODD if name not in REFUSED)]
"""Those that are attacked: fast is to come to what exact comes to."""


@dataclass(frozen=True, eq=False)
class Case:
    """A model's builder, clean images (24, 3, 16, 16), labels of which some err, and a budget.

    ``given`` makes what is attacked, anew for each attack.
    """

    builder: Callable[[], nn.Module]
    images: Tensor
    labels: Tensor
    eps: float
    odd: Odd

    def given(self) -> tuple[Tensor, Tensor]:
        return self.odd.given(self.images.clone(), self.labels.clone())


def reach(model: nn.Module, images: Tensor) -> float:
    """The eps with which about half of the images would be fooled if the model were linear."""
    images = images.clone().requires_grad_(True)
    best = model(images).topk(2, dim=1).values
    margins = best[:, 0] - best[:, 1]
    (slope,) = torch.autograd.grad(margins.sum(), images)
    return float((margins / slope.abs().sum(dim=(1, 2, 3))).median().detach())


@cache
def case_of(name: str) -> Case:
    """A member of the zoo; those that are refused have the labels of the plain network."""
    odd = ODD[name] if name in ODD else Odd(ARCHITECTURES[name])
    images = pictures()
    eps = odd.eps or reach(simple() if name in ODD else odd.builder(), images)
    case = Case(odd.builder, images, torch.zeros(len(images)).long(), float(f"{eps:.3g}"), odd)
    model, seen = (simple(), images) if name in REFUSED else (odd.builder(), case.given()[0])
    labels = predictions(model, seen.detach().clone())
    return replace(case, labels=some_wrong(labels, 2 if name == "two classes" else CLASSES))


def pgd(eps: float) -> Attack:
    return PGD(eps=eps, steps=4, relative_step_size=0.25)


OTHERS: tuple[Callable[[float], Attack], ...] = (
    lambda eps: FGSM(eps=eps),
    lambda eps: BIM(eps=eps, steps=4, relative_step_size=0.3),
    lambda eps: MIM(eps=eps, steps=4, relative_step_size=0.3),
)
"""The other attacks by sign."""


def right(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Boolean (N,), by the model itself: logits that are not finite are of no class."""
    with torch.no_grad():
        logits = model.eval()(images.detach().clone())
    return logits.isfinite().all(dim=1) & (logits.argmax(dim=1) == labels)
