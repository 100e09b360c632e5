"""Number format of a forward pass: fp32, or bf16 where the processor multiplies it natively."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "auto"]


@lru_cache(maxsize=1)
def bf16_is_native() -> bool:
    """True when this processor has bf16 matrix instructions (AVX-512 BF16 or AMX)."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    return "AVX512" in capabilities and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and _flag("avx512_bf16")


def _flag(name: str) -> bool:
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file:
            return any(name in line for line in file if line.startswith("flags"))
    except OSError:
        return False


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Context in which matrix products run in ``precision``."""
    native = device.type != "cpu" or bf16_is_native()
    half = precision == "bf16" or (precision == "auto" and native)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half, cache_enabled=False)
