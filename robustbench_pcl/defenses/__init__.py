"""Training schemes: what a batch goes through before its loss is minimised.

A recipe asks a defence for its settings, and recipes are made and reported without torch. So a
module that defines a member of the family imports torch only inside ``step`` and ``memory``; what
they share and what needs torch throughout is in the modules without a member.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustbench_pcl.registry import Family

if TYPE_CHECKING:
    from robustbench_pcl.defenses.base import Defense

DEFENSES: Family[type[Defense]] = Family(
    "defense",
    {
        "none": "robustbench_pcl.defenses.base:Standard",
        "advtrain": "robustbench_pcl.defenses.mixed_batches:MixedBatches",
        "madry": "robustbench_pcl.defenses.min_max:MinMax",
        "ross": "robustbench_pcl.defenses.input_gradient:InputGradient",
        "yu": "robustbench_pcl.defenses.decision_surface:DecisionSurface",
        "adp": "robustbench_pcl.defenses.ensemble_diversity:EnsembleDiversity",
        "atda": "robustbench_pcl.defenses.domain_adaptation:DomainAdaptation",
    },
)
