"""Models that pclbench did not train, as they are: from the user's code and weights to logits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robustbench_pcl.errors import InvalidInputError, UserError
from robustbench_pcl.models.classifier import Normalise
from robustbench_pcl.models.sources import (
    FileSource,
    Source,
    TorchvisionSource,
    code_digest,
    read_source,
)
from robustbench_pcl.models.weights import Tensors, fit, read_weights
from robustbench_pcl.recipe import Channels, ExternalModel, Origin, read_origin
from robustbench_pcl.store.checkpoints import Checkpoint, load_arrays

DEFAULT = "DEFAULT"
"""Of ``weights``: torchvision's own."""


class Logits(nn.Module):
    """Which part of what a model returns is the logits.

    Args:
        output: an attribute, a key or an index; "" for all of it, or what is called logits.
    """

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output

    def forward(self, returned: object) -> object:
        """Take that part.

        Raises:
            InvalidInputError: there is no such part, or it has to be said which one it is.
        """
        if isinstance(returned, Tensor) and not self.output:
            return returned
        wanted = self.output or "logits"
        if isinstance(returned, Mapping) and wanted in returned:
            return returned[wanted]
        if hasattr(returned, wanted):
            return getattr(returned, wanted)
        many = isinstance(returned, tuple | list)
        if many and wanted.isdecimal() and int(wanted) < len(returned):  # type: ignore[arg-type]
            return returned[int(wanted)]  # type: ignore[index]
        kind = type(returned).__name__
        parts = [*map(str, returned)] if isinstance(returned, Mapping) else []
        if many:
            parts = [str(index) for index in range(len(returned))]  # type: ignore[arg-type]
        raise InvalidInputError(
            f"The model returns a {kind}"
            + (f", which has no {self.output!r}." if self.output else ", not logits."),
            f"Say which part is the logits: --output {' or '.join(parts)}"
            if parts
            else "Leave --output out, or make the model return its logits (N, K).",
        )


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model of a user's, with its weights.

    Attributes:
        network: the user's own module, in eval mode and float32.
        source: what made it.
        mean: of the pixels of each channel, or of all; () if nothing is subtracted.
        std: what they are divided by.
        output: which part of what it returns is the logits.
    """

    network: nn.Module
    source: Source
    mean: tuple[float, ...]
    std: tuple[float, ...]
    output: str

    @property
    def model(self) -> nn.Sequential:
        """From pixels (N, C, H, W) in [0, 1] to logits (N, K), in eval mode."""
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if self.mean:
            parts["normalise"] = Normalise(self.mean, self.std)
        parts |= {"network": self.network, "logits": Logits(self.output)}
        return nn.Sequential(parts).eval()


def load_external(
    source: str,
    weights: Path | str = "",
    *,
    mean: Channels = (),
    std: Channels = (),
    output: str = "",
) -> nn.Sequential:
    """A model of your own, from pixels in [0, 1] to logits, as ``evaluate`` takes it.

    Args:
        source: "my_model.py:Net", a class or a function without arguments, or
            "torchvision:resnet18".
        weights: a safetensors file, a file of a state_dict, or "DEFAULT" for torchvision's own; ""
            for a model that loads its own.
        mean: subtracted from the pixels of each channel; one number for all. Not needed where the
            model does that itself.
        std: what they are divided by then.
        output: which part of what it returns is the logits: an attribute, a key or an index.

    Raises:
        UserError: something of that cannot be read, or does not go together.
    """
    origin = read_origin(source=source, weights=str(weights), mean=mean, std=std, output=output)
    return load(origin).model


def load(origin: Origin) -> Loaded:
    """What an origin leads to.

    Raises:
        UserError: something of it cannot be read, or does not go together.
    """
    source, mean, std = read_source(origin.source), origin.mean, origin.std
    code = source.path.stem if isinstance(source, FileSource) else ""
    tensors: Tensors | None = None
    if origin.weights == DEFAULT and isinstance(source, TorchvisionSource):
        tensors, expected = source.pretrained()
        mean, std = (mean, std) if mean else expected
    elif origin.weights:
        tensors = read_weights(Path(origin.weights), code)
    network = _with_weights(source, tensors, Path(origin.weights))
    if tensors is None:
        _check_brings_weights(source, network)
    return Loaded(network, source, mean, std, origin.output)


def restore(checkpoint: Checkpoint, device: torch.device | str = "cpu") -> nn.Sequential:
    """A stored external model, by the same code as when it came in, in eval mode.

    Raises:
        UserError: that code is gone or has changed, or the file is damaged.
    """
    model = checkpoint.record.recipe
    assert isinstance(model, ExternalModel)
    path, source = checkpoint.path, read_source(model.source)
    again = (
        f"pclbench attack {model.source} --weights {path} --dataset {model.dataset} "
        f"{_normalisation(model)}--name {model.name}-2"
    )
    if isinstance(source, FileSource):
        places = [Path(model.folder) / source.path, source.path]
        there = [FileSource(place, source.attribute) for place in places if place.is_file()]
        if not there:
            raise UserError(
                f"The code of {model.name} is gone: there is no {places[0]}.",
                "Put the file back there or into the current folder.",
            )
        same = (each for each in there if code_digest(each.folder, model.files) == model.code)
        source = next(same, there[0])
    if code_digest(source.folder, model.files) != model.code:
        raise UserError(
            f"The code of {model.name} has changed since it was stored: "
            f"{', '.join(model.files)} in {source.folder}.",
            f"Put it back as it was, or attack it as another model: {again}",
        )
    arrays = load_arrays(path, checkpoint.record.weights)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    network = _with_weights(source, tensors, path)
    return Loaded(network, source, model.mean, model.std, model.output).model.to(device)


def _normalisation(model: ExternalModel) -> str:
    """The options that say it, with a blank behind."""
    texts = [",".join(f"{value:g}" for value in values) for values in (model.mean, model.std)]
    return f"--mean {texts[0]} --std {texts[1]} " if model.mean else ""


def _with_weights(source: Source, tensors: Tensors | None, path: Path) -> nn.Module:
    """The source's model with tensors in it, in eval mode and float32, as verdicts are."""
    network = source.make(tensors, seed=0)
    if any(isinstance(value, nn.UninitializedParameter) for value in network.parameters()):
        raise UserError(
            f"{source.name} has lazy layers, whose sizes are not known before it is called.",
            "Call it once in a function that returns it: net(torch.zeros(1, 3, 32, 32)).",
        )
    if tensors is not None:
        fit(network, tensors, path, source.name)
    return network.float().eval()


def _check_brings_weights(source: Source, network: nn.Module) -> None:
    """Refuse a model whose weights are nobody's: another seed makes others.

    Raises:
        UserError: a parameter was drawn at random.
    """
    other = dict(source.make(None, seed=1).named_parameters())
    for name, value in network.named_parameters():
        if name not in other or not torch.equal(value, other[name].float()):
            raise UserError(
                f"{source.name} has no weights of its own: {name} is drawn at random.",
                "Give them: --weights FILE, a state_dict or safetensors.",
            )
