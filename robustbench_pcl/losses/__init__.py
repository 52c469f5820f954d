"""What is minimised on the features of tapped layers, beside cross-entropy on the logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustbench_pcl.registry import Family

if TYPE_CHECKING:
    from robustbench_pcl.losses.base import FeatureLoss

CROSS_ENTROPY = "cross-entropy"
"""The name of having no further loss; it has no module of its own."""

LOSSES: Family[type[FeatureLoss]] = Family(
    "loss",
    {
        CROSS_ENTROPY: "robustbench_pcl.losses.base:FeatureLoss",
        "pcl": "robustbench_pcl.losses.prototype_conformity:PrototypeConformity",
        "pcl-authors": "robustbench_pcl.losses.authors_conformity:AuthorsConformity",
        "center": "robustbench_pcl.losses.center:CenterLoss",
        "contrastive": "robustbench_pcl.losses.contrastive:ContrastiveLoss",
        "triplet": "robustbench_pcl.losses.triplet:TripletLoss",
        "deep-softmax": "robustbench_pcl.losses.deep_softmax:DeepSoftmax",
    },
)
