"""Batch normalisation in eval mode is linear: found after a convolution, it is part of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn


def conv_norm_pairs(model: nn.Module, images: Tensor) -> dict[str, str]:
    """Which batch normalisation takes which convolution's output, by their names.

    Found by passing images through, so that it holds for any model, whatever its attributes are
    called. A module that is used more than once is left out. That the output goes nowhere else
    cannot be seen here: who folds compares the results.

    Args:
        model: in eval mode.
        images: a few, (N, C, H, W).
    """
    made: list[tuple[str, Tensor, int]] = []
    pairs: dict[str, str] = {}
    uses: Counter[str] = Counter()

    def watch(name: str, module: nn.Module) -> Any:
        def after(_module: nn.Module, _given: object, output: Tensor) -> None:
            uses[name] += 1
            made.append((name, output, output._version))

        def before(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
            uses[name] += 1
            for conv, output, version in made:
                if output is given[0] and output._version == version:  # not changed in place
                    pairs[conv] = name

        if isinstance(module, nn.Conv2d):
            return module.register_forward_hook(after)
        return module.register_forward_pre_hook(before)

    handles = [
        watch(name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d) or _foldable(module)
    ]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return {conv: norm for conv, norm in pairs.items() if uses[conv] == uses[norm] == 1}


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what both do, in eval mode."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("this batch normalisation keeps no statistics to fold")
    weight, bias = nn.utils.fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        mean,
        variance,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    return weight, bias


def _foldable(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and module.running_var is not None
