"""Number format of the matrix products of a forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Literal, get_args

import torch

from elastic_ir.elastic.int8 import has_flag, int8_is_available, int8_products
from elastic_ir.errors import ConfigError

Precision = Literal["fp32", "bf16", "int8", "auto"]
"""``auto`` is the fastest here: bf16 on a GPU or where the processor multiplies it natively, else int8, else fp32."""


@lru_cache(maxsize=1)
def bf16_is_native() -> bool:
    """True when this processor has bf16 matrix instructions (AVX-512 BF16 or AMX)."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    return "AVX512" in capabilities and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and has_flag("avx512_bf16")


def resolve(device: torch.device, precision: Precision) -> Precision:
    """What ``precision`` means on ``device``: ``auto`` becomes one of the others.

    Raises:
        ConfigError: for an unknown word, or int8 where there are no kernels for it.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision {precision!r} is unknown; wanted one of {', '.join(get_args(Precision))}")
    int8 = device.type == "cpu" and int8_is_available()
    if precision == "int8" and not int8:
        raise ConfigError(f"precision int8 needs an x86 processor, found device {device.type}; use auto, bf16 or fp32")
    if precision != "auto":
        return precision
    if device.type != "cpu" or bf16_is_native():
        return "bf16"
    return "int8" if int8 else "fp32"


@contextmanager
def autocast(device: torch.device, precision: Precision) -> Iterator[None]:
    """Context in which matrix products run in ``precision``."""
    found = resolve(device, precision)
    half = torch.autocast(device.type, dtype=torch.bfloat16, enabled=found == "bf16", cache_enabled=False)
    with half, int8_products() if found == "int8" else nullcontext():
        yield
