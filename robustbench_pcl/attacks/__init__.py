"""Attacks on any ``torch.nn.Module`` that maps pixels in [0, 1] to logits.

    from robustbench_pcl.attacks import PGD
    adversarial = PGD(eps=8 / 255)(model, images, labels, generator=torch.Generator())

Names are looked up here without importing torch; a class is imported when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robustbench_pcl.registry import Family

if TYPE_CHECKING:
    from robustbench_pcl.attacks.base import Attack
    from robustbench_pcl.attacks.bim import BIM
    from robustbench_pcl.attacks.cw import CW
    from robustbench_pcl.attacks.fgsm import FGSM
    from robustbench_pcl.attacks.mim import MIM
    from robustbench_pcl.attacks.pgd import PGD

__all__ = ["ATTACKS", "BIM", "CW", "FGSM", "MIM", "PGD"]

ATTACKS: Family[type[Attack]] = Family(
    "attack",
    {
        "fgsm": "robustbench_pcl.attacks.fgsm:FGSM",
        "bim": "robustbench_pcl.attacks.bim:BIM",
        "cw": "robustbench_pcl.attacks.cw:CW",
        "mim": "robustbench_pcl.attacks.mim:MIM",
        "pgd": "robustbench_pcl.attacks.pgd:PGD",
    },
)


def __getattr__(name: str) -> Any:
    if name.isupper() and name.lower() in ATTACKS:
        return ATTACKS[name.lower()]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
