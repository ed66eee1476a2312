"""What is trained: vectors and LoRAs behind one small protocol. Start with ``base.py``."""

from __future__ import annotations

import os

from oocr_lib.adapters.base import Adapter, Attached
from oocr_lib.adapters.direction import Filtered
from oocr_lib.adapters.group import LoraGroup
from oocr_lib.adapters.lora import LoraAdapter
from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import choose
from oocr_lib.util.files import load_tensors

__all__ = [
    "Adapter",
    "Attached",
    "Filtered",
    "LoraAdapter",
    "LoraGroup",
    "VectorAdapter",
    "load",
]

KINDS: dict[str, type[VectorAdapter] | type[LoraAdapter] | type[LoraGroup] | type[Filtered]] = {
    VectorAdapter.kind: VectorAdapter,
    LoraAdapter.kind: LoraAdapter,
    LoraGroup.kind: LoraGroup,
    Filtered.kind: Filtered,
}


@checked
def load(
    path: str | os.PathLike[str], any_model: bool = False
) -> VectorAdapter | LoraAdapter | LoraGroup | Filtered:
    """Read a saved adapter of any kind.

    Args:
        any_model: accept it for a model of any digest, and print what is ignored.

    Raises:
        UserError: the file holds no adapter, with the reason. Attaching the adapter to another
            model than its own is an error, too.
    """
    _, metadata = load_tensors(path)
    kind = KINDS[choose(str(metadata.get("kind")), KINDS, "kind of adapter")]
    return kind.load(path, any_model)
