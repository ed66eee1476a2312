"""Does a model fit into memory? Checked before it is read, so that no machine starts to swap."""

from __future__ import annotations

import math
from pathlib import Path

import psutil
import torch
from safetensors import SafetensorError, safe_open

from oocr_lib.util.errors import UserError


def weight_bytes(folder: Path, dtype: torch.dtype | str) -> int:
    """Bytes of a model's weights in memory, from the headers of its files.

    Args:
        dtype: the data type in memory; ``"auto"`` is the files' own.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not isinstance(dtype, torch.dtype):
        return sum(file.stat().st_size for file in files)
    return sum(_numbers(file) for file in files) * dtype.itemsize


def _numbers(file: Path) -> int:
    """How many numbers a file of weights holds; 0 where it cannot be read, which loading says."""
    try:
        with safe_open(file, "pt") as weights:
            return sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
    except (SafetensorError, OSError):
        return 0


def free_bytes(device: torch.device) -> int:
    """Bytes that are free where a model would go."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def refuse_too_large(
    folder: Path, name: str, device: torch.device, dtype: torch.dtype | str
) -> None:
    """Check that the weights alone fit; what a run needs besides is cut to what is left.

    Raises:
        UserError: they do not fit.
    """
    needed, free = weight_bytes(folder, dtype), free_bytes(device)
    if needed > free:
        kind = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else "stored"
        raise UserError(
            f"Model {name!r} does not fit: its weights take {needed / 1e9:.1f} GB as {kind}, and "
            f"{free / 1e9:.1f} GB are free on {device.type}. Allowed: a smaller model, a machine "
            "with more memory, or dtype='bfloat16' (half of float32)."
        )
