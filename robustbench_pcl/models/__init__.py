"""Classifiers from pixels in [0, 1] to logits, with numbered layers that losses can act on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from robustbench_pcl.registry import Family

if TYPE_CHECKING:
    from robustbench_pcl.models.classifier import Architecture

MODELS: Family[Callable[[int, int, float], Architecture]] = Family(
    "model",
    {
        "conv6": "robustbench_pcl.models.plain:conv6",
        "resnet20": "robustbench_pcl.models.resnet:resnet20",
        "resnet110": "robustbench_pcl.models.resnet:resnet110",
        "resnet164": "robustbench_pcl.models.resnet:resnet164",
        "vgg19": "robustbench_pcl.models.plain:vgg19",
    },
)
