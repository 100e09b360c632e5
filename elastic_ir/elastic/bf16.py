"""bf16 matrix products on the processor, with weights converted and laid out once.

``torch.autocast`` converts every matrix again at each use: more than half of the time of a query, a fifth of that of a
batch of 1,500 tokens.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=1)
def is_available() -> bool:
    """True when this build of torch has the kernel, and the processor what it needs."""
    try:
        linear(torch.ones(1, 4), pack(torch.ones(4, 4)), torch.zeros(4))
    except (AttributeError, RuntimeError):
        return False
    return True


def is_active(x: Tensor) -> bool:
    """True where products with ``x`` are in bf16 and have a kernel: inside ``torch.autocast`` of the processor."""
    half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return half and x.device.type == "cpu" and is_available()


def linear(x: Tensor, packed: Tensor, bias: Tensor) -> Tensor:
    """``x`` ``[..., in]`` times packed weights, plus ``bias`` ``[out]``: ``[..., out]`` bf16."""
    half = torch.bfloat16
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(half), packed, bias.to(half), "none", [], "")
    return product


def pack(weight: Tensor) -> Tensor:
    """bf16 form of ``weight`` ``[out, in]`` in the kernel's layout."""
    half = weight.detach().to(torch.bfloat16).contiguous()
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(half, None)
    return packed
