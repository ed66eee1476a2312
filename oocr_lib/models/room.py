"""Does a model fit into memory? Weighed before it is read, so that no machine stands still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import torch

from oocr_lib.util.errors import UserError
from oocr_lib.util.files import read_json

#: Bytes of a number in the files, by the config's word; without one they are float32.
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Where a config says it: transformers 5, and before.
_KEYS = ("dtype", "torch_dtype")


def weight_bytes(folder: Path, dtype: torch.dtype | str) -> int:
    """Bytes of a model's weights in memory, from the size of its files and their precision.

    Args:
        dtype: that it will have in memory; ``"auto"`` is the files' own.
    """
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if not isinstance(dtype, torch.dtype):
        return stored
    try:
        config: dict[str, Any] = read_json(folder / "config.json")
    except UserError:  # reading the model says what is wrong with it
        return stored
    named = [part.get(key) for part in (config, config.get("text_config") or {}) for key in _KEYS]
    word = next((str(word) for word in named if word), "float32")
    return stored * dtype.itemsize // _BYTES.get(word, 4)


def free_bytes(device: torch.device) -> int:
    """Bytes that are free where a model would go."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def refuse_too_large(
    folder: Path, name: str, device: torch.device, dtype: torch.dtype | str
) -> None:
    """Check that the weights alone fit; what a run takes beside them is cut to what is left.

    Raises:
        UserError: they do not.
    """
    needed, free = weight_bytes(folder, dtype), free_bytes(device)
    if needed > free:
        kind = str(dtype).removeprefix("torch.") if isinstance(dtype, torch.dtype) else "stored"
        raise UserError(
            f"Model {name!r} does not fit: its weights take {needed / 1e9:.1f} GB as {kind}, and "
            f"{free / 1e9:.1f} GB are free on {device.type}. Allowed: a smaller model, a machine "
            "with more memory, or dtype='bfloat16' (half of float32)."
        )
