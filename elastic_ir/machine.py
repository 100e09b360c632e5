"""What times depend on: processor, cores, torch and its threads."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """This machine."""
    return {"processor": _processor(), "cores": cores(), "torch": torch.__version__, "system": platform.system()}


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """Threads that models use now."""
    return torch.get_num_threads()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                flags = torch.backends.cpu.get_cpu_capability()
                return f"{line.partition(':')[2].strip()} ({flags})"
    return platform.processor() or platform.machine()
