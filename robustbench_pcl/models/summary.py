"""A model's layers in the words of the paper's Table 1."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from robustbench_pcl.models.classifier import Classifier, GlobalAveragePool


@dataclass(frozen=True)
class Layer:
    """One numbered layer of a model.

    Attributes:
        number: Table 1's.
        modules: in Table 1's words.
        output: shape of what it passes on, for one image.
        parameters: how many it learns.
        branch: what its features pass through before a loss takes them, "" if nothing; None where
            no loss takes them.
        features: how many a loss takes, or None.
    """

    number: int
    modules: str
    output: tuple[int, ...]
    parameters: int
    branch: str | None = None
    features: int | None = None


def layers_of(model: Classifier, shape: tuple[int, int, int]) -> list[Layer]:
    """The numbered layers and, last, the head that gives the logits.

    Args:
        model: any classifier; its feature layers are those that a loss takes features from.
        shape: of an image, (channels, height, width).
    """
    layers: list[Layer] = []
    model.eval()
    with torch.no_grad():
        output: Tensor = torch.zeros(1, *shape)
        for number, module in enumerate(model.layers, start=1):
            output = module(output)
            layer = _layer(number, module, output)
            if str(number) in model.branches:
                branch = model.branches[str(number)]
                pooled = isinstance(branch, GlobalAveragePool) and output.ndim == 2
                words = "" if pooled else describe(branch)
                layer = replace(layer, branch=words, features=branch(output).shape[1])
            layers.append(layer)
        layers.append(_layer(len(layers) + 1, model.head, model.head(output)))
    return layers


def describe(module: nn.Module) -> str:
    """A module in Table 1's words: ``Conv(64, 3x3) + BN``; repeated runs are counted."""
    words = [_words(leaf) for leaf in _leaves(module)]
    return _fold([word for word in words if word])


def _layer(number: int, module: nn.Module, output: Tensor) -> Layer:
    parameters = sum(value.numel() for value in module.parameters())
    return Layer(number, describe(module), tuple(output.shape[1:]), parameters)


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
