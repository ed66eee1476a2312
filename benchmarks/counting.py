"""What a machine can do and what a piece of work asks for: rates, counted work, peak memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def matmul_rate(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """Floating-point operations a second of square matrix products, best of many."""
    a = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(20):
        begin = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


def work(call: Callable[[], Any]) -> float:
    """Floating-point operations of the matrix products in a call, as PyTorch counts them.

    Its counter knows no fused attention on CPUs; at these lengths that is a few per cent.
    """
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def peak_bytes(call: Callable[[], Any], device: torch.device) -> float:
    """Most memory that a call takes above what was taken before; nan where it cannot be read."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return float(torch.cuda.max_memory_allocated() - before)
    try:
        _RESET.write_text("5")  # forgets the peak so far
        before = _kilobytes("VmRSS")
        call()
        return 1024.0 * (_kilobytes("VmHWM") - before)
    except OSError:
        return float("nan")


def _kilobytes(name: str) -> int:
    (line,) = [line for line in _STATUS.read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1])
