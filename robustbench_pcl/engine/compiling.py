"""Compiling a model where the work that is left is long enough for it to pay."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import torch
from torch import nn

LONG = 600.0
"""Seconds of work left from which on compiling is tried: it takes 10 to 120."""
FASTER = 1.1
"""A compiled model stays if it is so much faster: on processors it seldom is."""


class Compiler:
    """Keeps a compiled form of one model, for batches of one size, if it was measured faster."""

    def __init__(self) -> None:
        self._compiled: nn.Module | None = None
        self._size = 0
        self._tried = False

    def or_plain(self, model: nn.Module, size: int) -> nn.Module:
        """The compiled form for its own size of batch; another would compile it anew."""
        return self._compiled if self._compiled is not None and size == self._size else model

    def consider(
        self, model: nn.Module, run: Callable[[nn.Module], None], seconds: float, size: int
    ) -> None:
        """Compile, once, if what is left takes long; keep it if it is faster.

        Args:
            model: what may be compiled.
            run: passes a batch through a model, forward and backward.
            seconds: that are left without.
            size: images a batch.
        """
        if self._tried or seconds < LONG:
            return
        self._tried = True
        try:
            candidate = cast(nn.Module, torch.compile(model, dynamic=False))
            run(candidate)
        except Exception:
            return
        if _seconds(run, candidate) * FASTER < _seconds(run, model):
            self._compiled, self._size = candidate, size


def _seconds(run: Callable[[nn.Module], None], model: nn.Module) -> float:
    began = time.perf_counter()
    run(model)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began
