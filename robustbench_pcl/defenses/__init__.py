"""Training schemes: what a batch goes through before its loss is minimised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustbench_pcl.registry import Family

if TYPE_CHECKING:
    from robustbench_pcl.defenses.base import Defense

DEFENSES: Family[type[Defense]] = Family(
    "defense",
    {
        "none": "robustbench_pcl.defenses.base:Standard",
        "adversarial-training": "robustbench_pcl.defenses.adversarial_training:AdversarialTraining",
        "min-max": "robustbench_pcl.defenses.min_max:MinMax",
    },
)
