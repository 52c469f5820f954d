"""What the processor and the accelerator are, and what they compute natively."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@cache
def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies matrices of bfloat16 faster than of float32.

    On CUDA from compute capability 8.0 (Ampere); on a CPU with AVX-512 BF16, AMX or Arm's BF16
    extension, where the system tells; nowhere else.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_capability(device) >= (8, 0)
    flags = r"^(flags|Features)\s*:.*\b(avx512_bf16|amx_bf16|bf16)\b"
    return device.type == "cpu" and re.search(flags, _cpuinfo(), re.MULTILINE) is not None


def processor() -> str:
    """The processor's model, or its architecture where the system does not tell."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return found.group(1) if found else platform.processor() or platform.machine()


def _cpuinfo() -> str:
    """Linux's description of the processor; "" elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
