"""The C library's allocator: buffers freed by one forward pass are kept for the next.

By default glibc gives large buffers back to the system at once, and every layer faults its pages in again: a quarter of
the time of a batch on two cores. Once a long pass is over all may be given back.
"""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # numbers of glibc's malloc.h
_SETTINGS = {_MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 256 << 20, _TOP_PAD: 64 << 20}
"""Bytes: buffers up to 32 MiB (older versions of glibc take no more) come from the heap, which keeps 256 MiB free."""


def give_back() -> bool:
    """Give what is kept and free back to the system, before work that needs it elsewhere; False where it cannot."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):  # another C library
        return False


@lru_cache(maxsize=1)
def keep_buffers() -> bool:
    """Make glibc keep freed buffers, once for the process; False where it cannot or ``MALLOC_*`` settings say how."""
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return all(mallopt(key, value) == 1 for key, value in _SETTINGS.items())
