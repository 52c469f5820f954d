"""torch, imported when something of it is first used.

Attacks and defences are configurations first: they are planned, stored and reported without torch,
whose import takes seconds. Their files say ``from robustbench_pcl.lazy import torch`` instead.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any


class LazyModule(ModuleType):
    """A module that is imported when an attribute of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what inspection looks for needs no import
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


if TYPE_CHECKING:
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn
else:
    np = LazyModule("numpy")
    torch = LazyModule("torch")
    nn = LazyModule("torch.nn")
    F = LazyModule("torch.nn.functional")

__all__ = ["F", "LazyModule", "nn", "np", "torch"]
