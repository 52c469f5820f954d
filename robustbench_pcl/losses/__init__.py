"""Losses on the features of a network's layers, which are minimised beside cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustbench_pcl.registry import ConfigurationFamily

if TYPE_CHECKING:
    from robustbench_pcl.losses.configuration import LossConfiguration

CROSS_ENTROPY = "cross-entropy"
"""The name of having no further loss."""

LOSSES: ConfigurationFamily[LossConfiguration] = ConfigurationFamily(
    "loss",
    {
        CROSS_ENTROPY: "robustbench_pcl.losses.configuration:CrossEntropy",
        "pcl": "robustbench_pcl.losses.configuration:PCL",
        "pcl-authors": "robustbench_pcl.losses.configuration:PCLAuthors",
        "center": "robustbench_pcl.losses.configuration:Center",
        "contrastive": "robustbench_pcl.losses.configuration:Contrastive",
        "triplet": "robustbench_pcl.losses.configuration:Triplet",
        "deep-softmax": "robustbench_pcl.losses.configuration:DeepSoftmax",
    },
)
