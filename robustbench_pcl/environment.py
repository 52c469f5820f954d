"""The machine that computes: its processor, its accelerator and its versions."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_pcl.configuration import Description
from robustbench_pcl.errors import UserError
from robustbench_pcl.lazy import torch
from robustbench_pcl.version import __version__

if TYPE_CHECKING:
    from torch import device as Device

CPUINFO = Path("/proc/cpuinfo")
"""Linux's description of the processor; elsewhere there is no such file."""


class Environment(Description):
    """Where an artefact was made, in the words that a footnote needs.

    Attributes:
        pclbench: version of this package.
        python: version of Python.
        torch: version of PyTorch.
        platform: operating system and architecture ("Linux x86_64").
        device: model of the accelerator or the processor.
        threads: of PyTorch on the processor.
    """

    pclbench: str
    python: str
    torch: str
    platform: str
    device: str
    threads: int


def current_environment(device: Device) -> Environment:
    """Describe this machine, without naming it, when it computes on ``device``."""
    return Environment(
        pclbench=__version__,
        python=platform.python_version(),
        torch=str(torch.version.__version__),
        platform=f"{platform.system()} {platform.machine()}",
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        threads=torch.get_num_threads(),
    )


def pick_device(name: str = "auto") -> Device:
    """The device with that name; "auto" takes the accelerator if there is one.

    Verdicts are float32's on every device: cuDNN is told to keep all of its bits, of which it
    would drop 13 of 23 in convolutions.

    Raises:
        UserError: there is no such device here.
    """
    device = _find_device(name)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    return device


def _find_device(name: str) -> Device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" makes tensors, but nothing is in them
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"There is no device {name!r} here ({str(error).splitlines()[0]}).",
            "Leave --device out, or write --device cpu.",
        ) from error
    return device


def has_accelerator() -> bool:
    """Whether "auto" would find a CUDA device."""
    return bool(accelerators())


def accelerators() -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls each CUDA device; the driver is asked, not torch."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    count = ctypes.c_int(0)
    with contextlib.suppress(OSError, AttributeError):
        driver = ctypes.CDLL(library)
        if driver.cuInit(0) == 0:
            driver.cuDeviceGetCount(ctypes.byref(count))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else map(str, range(count.value))
    return [name.strip() for name in names][: count.value]


def processes() -> int:
    """How many processes torchrun, or what works like it, started for this command; 1 if none."""
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if size.isdecimal() else 1


def require_one_process() -> None:
    """Refuse to be one of several processes, each of which would do all that is asked for.

    Raises:
        UserError: there are several; the first of them says so.
    """
    if processes() > 1:
        raise said_once(
            f"{processes()} processes were started, and each would do all that is asked for.",
            "Leave torchrun out: only pclbench train works with it (docs/how-to/cluster.md).",
        )


def said_once(cause: str, cure: str) -> UserError | SystemExit:
    """The error that all processes meet: the first of them says it, the others leave."""
    return UserError(cause, cure) if os.environ.get("RANK", "0") == "0" else SystemExit(2)


@cache
def computes_bfloat16(device: Device) -> bool:
    """Whether a device multiplies matrices of bfloat16 faster than of float32.

    On CUDA from compute capability 8.0 (Ampere); on a CPU with AVX-512 BF16, AMX or Arm's BF16
    extension, where the system tells; nowhere else.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not CPUINFO.exists():
        return False
    flags = r"^(flags|Features)\s*:.*\b(avx512_bf16|amx_bf16|bf16)\b"
    return re.search(flags, CPUINFO.read_text(encoding="utf-8"), re.MULTILINE) is not None


def processor() -> str:
    """The processor's model, or its architecture where the system does not tell."""
    told = CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", told, re.MULTILINE)
    return found.group(1) if found else platform.processor() or platform.machine()
