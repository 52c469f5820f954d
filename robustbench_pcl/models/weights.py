"""Weights from elsewhere: files of tensors, and whether they are a model's."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from robustbench_pcl.data.archives import open_zip
from robustbench_pcl.errors import UserError, in_one_line
from robustbench_pcl.store.checkpoints import PYTORCH, check_weights, file_kind
from robustbench_pcl.store.reading import cannot_read

Tensors = dict[str, Tensor]

MOST_PACKED = 2**26
"""Bytes that an archive may have more than its file."""
UNREADABLE = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError),
    *(AssertionError, OverflowError, MemoryError, struct.error),
)
"""What PyTorch raises on a damaged file, by kind of damage."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
"""How PyTorch names what a pickle would make beside tensors."""
_COUNTER = "num_batches_tracked"
"""Of batch normalisation; older files lack it, and in eval mode nothing uses it."""


def read_weights(path: Path, code: str = "") -> Tensors:
    """The tensors of a file by name, on the CPU: safetensors, or a state_dict of ``torch.save``.

    A state_dict may lie in a dictionary beside other things, as training scripts write it.

    Args:
        path: the file.
        code: the module that the model's code is in, for the command that converts the file.

    Raises:
        UserError: it cannot be read, holds more than tensors and plain values, or none or several
            sets of weights.
    """
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise cannot_read(path, error) from error  # training it with pclbench is no cure here
    check_weights(path)
    kind = file_kind(path)
    try:
        if kind == PYTORCH[0]:
            _check_packing(path)
        if kind == "safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what is an error below
            found = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise _damaged(path, in_one_line(error)) from error
    except pickle.UnpicklingError as error:
        named = _GLOBAL.search(str(error))
        if not named:
            raise _damaged(path, kind or "it is no file of PyTorch's") from error
        raise _more_than_tensors(path, named[1], code) from error
    except UNREADABLE as error:
        if "TorchScript" in str(error):
            saved = _beside(path)
            raise UserError(
                f"{path} is TorchScript, which contains a program. Only its weights are needed.",
                f'If you trust it, extract them: python -c "import torch; torch.save(torch.jit'
                f".load('{path}').state_dict(), '{saved}')\", then --weights {saved}",
            ) from error
        cut_off = not kind or kind in PYTORCH
        raise _damaged(path, "it is truncated or damaged" if cut_off else kind) from error
    return _only_set(found, path)


def _check_packing(path: Path) -> None:
    """Check that a file does not expand: ``torch.save`` packs nothing, TorchScript its code.

    Raises:
        RuntimeError: it does, or is no archive.
    """
    try:
        with open_zip(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise RuntimeError(str(error)) from error
    if size > path.stat().st_size + MOST_PACKED:
        raise RuntimeError("it expands to more than it has")


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}-weights.pt")


def _damaged(path: Path, what: str) -> UserError:
    return UserError(
        f"{path} holds no weights that can be read ({what}).",
        "Give a safetensors file, or what torch.save(model.state_dict(), FILE) writes.",
    )


def _more_than_tensors(path: Path, named: str, code: str) -> UserError:
    """The error for a pickle that would run code to make something, and how to convert it."""
    saved, (module, _, name) = _beside(path), named.rpartition(".")
    brought = f"from {code} import {name}; " if module == "__main__" and code else ""
    line = (
        f"import torch; {brought}x = torch.load('{path}', weights_only=False); "
        "x = x.get('state_dict', x.get('model')) if isinstance(x, dict) else x; "
        f"torch.save(getattr(x, 'state_dict', lambda: x)(), '{saved}')"
    )
    return UserError(
        f"{path} holds more than tensors: opening it would call {named}, and can run any code.",
        f'If you trust it, extract its weights: python -c "{line}", then --weights {saved}',
    )


def _only_set(found: object, path: Path) -> Tensors:
    """The one set of tensors in what a file holds: all of it, or one entry."""
    if _is_set(found):
        return dict(found)  # type: ignore[call-overload, no-any-return]
    inside = found if isinstance(found, Mapping) else {}
    sets = {str(key): value for key, value in inside.items() if _is_set(value)}
    if not sets:
        raise UserError(
            f"{path} holds no state_dict, but a {type(found).__name__}"
            + (f" of {', '.join(map(str, inside))}." if inside else "."),
            "Store one: torch.save(model.state_dict(), FILE)",
        )
    if len(sets) > 1:
        key, saved = next(iter(sets)), _beside(path)
        raise UserError(
            f"{path} holds several sets of weights: {', '.join(sets)}.",
            f"Take one out: python -c \"import torch; torch.save(torch.load('{path}', "
            f"weights_only=True)['{key}'], '{saved}')\", then --weights {saved}",
        )
    return dict(next(iter(sets.values())))


def _is_set(value: object) -> bool:
    """Whether it is at least one tensor by name, and nothing else."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) for key in value)
        and all(isinstance(each, Tensor) for each in value.values())
    )


def fit(model: nn.Module, tensors: Mapping[str, Tensor], path: Path, name: str) -> None:
    """Give a model the weights of a file.

    A first word that all names share and the model's do not ("module." of DataParallel,
    "_orig_mod." of torch.compile) is passed over.

    Args:
        model: that gets them.
        tensors: by name.
        path: the file, for errors.
        name: the model's, for errors.

    Raises:
        UserError: they are not its parameters and buffers; which of them, and what to do.
    """
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    given = _without_prefix(tensors, own)
    missing = [key for key in own if key not in given and not key.endswith(_COUNTER)]
    unexpected = [key for key in given if key not in own]
    shaped = [key for key in own if key in given and tuple(given[key].shape) != own[key]]
    if missing or unexpected or shaped:
        wrong = [
            *([f"{_first(missing)} missing"] if missing else []),
            *([f"{_first(unexpected)} unexpected"] if unexpected else []),
            *(f"{key} is {tuple(given[key].shape)}, not {own[key]}" for key in shaped[:1]),
        ]
        cure = "Name the class that was trained"
        if shaped and not missing and not unexpected:
            cure = "Make it as large as it was in training"
        raise UserError(
            f"{path} does not fit {name}: {'; '.join(wrong)}.",
            f"{cure}; if it takes arguments, name a function: def net(): return Net(...)",
        )
    model.load_state_dict(given, strict=False)  # what is missing are counters


def _without_prefix(tensors: Mapping[str, Tensor], own: Mapping[str, object]) -> Tensors:
    given = dict(tensors)
    while given and not given.keys() & own.keys():
        words = {key.partition(".")[0] for key in given}
        if len(words) > 1 or not all("." in key for key in given):
            break
        given = {key.partition(".")[2]: value for key, value in given.items()}
    return given if given.keys() & own.keys() else dict(tensors)


def _first(keys: list[str]) -> str:
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{keys[0]}{more}"
