"""What is trained: vectors and LoRA behind one small protocol. Start with ``base.py``."""

from __future__ import annotations

import os

from oocr_lib.adapters.base import Adapter, Attached, count_parameters
from oocr_lib.adapters.direction import Filtered
from oocr_lib.adapters.group import LoraGroup
from oocr_lib.adapters.lora import LoraAdapter
from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.errors import choose
from oocr_lib.store import load_tensors

__all__ = [
    "Adapter",
    "Attached",
    "Filtered",
    "LoraAdapter",
    "LoraGroup",
    "VectorAdapter",
    "count_parameters",
    "load",
]

KINDS: dict[str, type[VectorAdapter] | type[LoraAdapter] | type[LoraGroup] | type[Filtered]] = {
    VectorAdapter.kind: VectorAdapter,
    LoraAdapter.kind: LoraAdapter,
    LoraGroup.kind: LoraGroup,
    Filtered.kind: Filtered,
}


def load(path: str | os.PathLike[str]) -> VectorAdapter | LoraAdapter | LoraGroup | Filtered:
    """Read a saved adapter of any kind. Raises UserError with the reason if it is not one."""
    _, metadata = load_tensors(path)
    return KINDS[choose(str(metadata.get("kind")), KINDS, "kind of adapter")].load(path)
