"""Training schemes: what a batch goes through before its loss is minimised.

A defence is a configuration: recipes are made, planned and reported without torch, so its file says
``from robustbench_pcl.lazy import torch``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustbench_pcl.registry import ConfigurationFamily

if TYPE_CHECKING:
    from robustbench_pcl.defenses.base import Defense

DEFENSES: ConfigurationFamily[Defense] = ConfigurationFamily(
    "defense",
    {
        "none": "robustbench_pcl.defenses.base:Standard",
        "advtrain": "robustbench_pcl.defenses.adversarial:MixedBatches",
        "madry": "robustbench_pcl.defenses.adversarial:MinMax",
        "ross": "robustbench_pcl.defenses.regularizers:InputGradient",
        "yu": "robustbench_pcl.defenses.regularizers:DecisionSurface",
        "adp": "robustbench_pcl.defenses.adp:EnsembleDiversity",
        "atda": "robustbench_pcl.defenses.atda:DomainAdaptation",
    },
)
