"""Attacks on any ``torch.nn.Module`` that maps pixels in [0, 1] to logits.

    from robustbench_pcl.attacks import PGD
    adversarial = PGD(eps=8 / 255)(model, images, labels, generator=torch.Generator())

Neither this nor making an attack imports torch; calling it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robustbench_pcl.attacks.base import ATTACKS as ATTACKS

if TYPE_CHECKING:
    from robustbench_pcl.attacks.auto_pgd import APGD, APGDT
    from robustbench_pcl.attacks.carlini_wagner import CW
    from robustbench_pcl.attacks.deepfool import DeepFool
    from robustbench_pcl.attacks.diverse_input import DIM
    from robustbench_pcl.attacks.ensembles import AutoAttack, Strongest
    from robustbench_pcl.attacks.fab import FAB
    from robustbench_pcl.attacks.gradient_descent import BIM, FGSM, MIM, PGD
    from robustbench_pcl.attacks.lbfgs import LBFGS
    from robustbench_pcl.attacks.saliency_map import JSMA
    from robustbench_pcl.attacks.square import Square
    from robustbench_pcl.attacks.two_phases import A3, MD

__all__ = [
    "A3",
    "APGD",
    "APGDT",
    "ATTACKS",
    "BIM",
    "CW",
    "DIM",
    "FAB",
    "FGSM",
    "JSMA",
    "LBFGS",
    "MD",
    "MIM",
    "PGD",
    "AutoAttack",
    "DeepFool",
    "Square",
    "Strongest",
]

ATTACKS.members.update(
    {
        "fgsm": "robustbench_pcl.attacks.gradient_descent:FGSM",
        "bim": "robustbench_pcl.attacks.gradient_descent:BIM",
        "cw": "robustbench_pcl.attacks.carlini_wagner:CW",
        "mim": "robustbench_pcl.attacks.gradient_descent:MIM",
        "pgd": "robustbench_pcl.attacks.gradient_descent:PGD",
        "apgd": "robustbench_pcl.attacks.auto_pgd:APGD",
        "apgd-t": "robustbench_pcl.attacks.auto_pgd:APGDT",
        "md": "robustbench_pcl.attacks.two_phases:MD",
        "a3": "robustbench_pcl.attacks.two_phases:A3",
        "fab": "robustbench_pcl.attacks.fab:FAB",
        "square": "robustbench_pcl.attacks.square:Square",
        "deepfool": "robustbench_pcl.attacks.deepfool:DeepFool",
        "dim": "robustbench_pcl.attacks.diverse_input:DIM",
        "jsma": "robustbench_pcl.attacks.saliency_map:JSMA",
        "lbfgs": "robustbench_pcl.attacks.lbfgs:LBFGS",
        "auto": "robustbench_pcl.attacks.ensembles:AutoAttack",
        "strongest": "robustbench_pcl.attacks.ensembles:Strongest",
    }
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        (member,) = (key for key, path in ATTACKS.members.items() if path.endswith(f":{name}"))
        return ATTACKS[member]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
