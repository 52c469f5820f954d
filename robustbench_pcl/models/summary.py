"""A model's layers as rows of a table."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustbench_pcl.models.classifier import Classifier


def layer_table(model: Classifier, shape: tuple[int, int, int]) -> list[dict[str, str | int]]:
    """One row a numbered layer: its modules, its output's shape, its parameters, its tap.

    Args:
        model: any classifier, tapped where the table should show a tap.
        shape: of an image, (channels, height, width).
    """
    rows: list[dict[str, str | int]] = []
    model.eval()
    with torch.no_grad():
        output: Tensor = torch.zeros(1, *shape)
        for number, layer in enumerate(model.layers, start=1):
            output = layer(output)
            tapped = ""
            if str(number) in model.branches:
                branch = model.branches[str(number)]
                tapped = f"{describe(branch)} -> {branch(output).shape[1]}"
            rows.append(_row(str(number), layer, output, tapped))
        rows.append(_row(str(len(model.layers) + 1), model.head, model.head(output), "logits"))
    return rows


def describe(module: nn.Module) -> str:
    """A module in Table 1's words: ``Conv(64, 3x3) + BN``; repeated runs are counted."""
    parts: list[str] = []
    for leaf in _leaves(module):
        words = _words(leaf)
        if words:
            parts.append(words)
    return _fold(parts)


def _row(number: str, module: nn.Module, output: Tensor, tap: str) -> dict[str, str | int]:
    return {
        "layer": number,
        "modules": describe(module),
        "output": "x".join(map(str, output.shape[1:])),
        "parameters": sum(value.numel() for value in module.parameters()),
        "tap": tap,
    }


def _leaves(module: nn.Module) -> list[nn.Module]:
    """The modules without children, in order; a residual block's shortcut is left out."""
    children = [child for name, child in module.named_children() if name != "downsample"]
    return [leaf for child in children for leaf in _leaves(child)] if children else [module]


def _words(module: nn.Module) -> str:
    match module:
        case nn.Conv2d():
            size = "x".join(map(str, module.kernel_size))
            return f"Conv({module.out_channels}, {size})"
        case nn.Linear():
            return f"FC({module.out_features})"
        case nn.BatchNorm2d():
            return "BN"
        case nn.MaxPool2d():
            return "MaxPool"
        case nn.Identity():
            return ""
        case _:
            return {"GlobalAveragePool": "GAP"}.get(type(module).__name__, type(module).__name__)


def _fold(parts: list[str]) -> str:
    """``a + b + a + b`` as ``[a + b] x 2``, for the longest run from each position."""
    folded: list[str] = []
    start = 0
    while start < len(parts):
        length, times = _repeat(parts[start:])
        run = " + ".join(parts[start : start + length])
        folded.append(run if times == 1 else f"[{run}] x {times}")
        start += length * times
    return " + ".join(folded)


def _repeat(parts: list[str]) -> tuple[int, int]:
    """Length and number of repeats of the run at the front that covers the most."""
    best = (1, 1)
    for length in range(1, len(parts) // 2 + 1):
        times = 1
        while parts[length * times : length * (times + 1)] == parts[:length]:
            times += 1
        if times > 1 and length * times > best[0] * best[1]:
            best = (length, times)
    return best
