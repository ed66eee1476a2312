"""Whether a folder can hold a model, as far as can be told without loading it.

A notebook would find out half a minute later, in its first cells. What only loading shows (a wrong
shape, a missing tensor, a tokenizer that splits differently) is left to ``models.checkpoint``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from oocr_lib.util.errors import UserError
from oocr_lib.util.files import read_json

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


def refuse(folder: Path, name: str) -> None:
    """Check a folder's config and weights.

    Args:
        name: as it was typed.

    Raises:
        UserError: no config, one without a model type, or weights that are missing or cut off.
    """
    problem = _config(folder / CONFIG) or _weights(folder)
    if problem:
        raise UserError(
            f"Model {name!r} {problem}. Allowed: 'testbed', a folder written by save_pretrained "
            "(safetensors), or a hub name such as 'google/gemma-3-4b-it'."
        )


def _config(file: Path) -> str:
    """What is wrong with the config; empty if nothing is."""
    if not file.is_file():
        return f"has no {CONFIG} in its folder"
    config = _read(file)
    if not isinstance(config, dict):
        return f"has a {CONFIG} that is no JSON object"
    if not isinstance(config.get("model_type"), str):
        return f"has no model_type in its {CONFIG}"
    return ""


def _weights(folder: Path) -> str:
    """What is wrong with the weight files; empty if nothing is."""
    names = [WEIGHTS]
    if (folder / INDEX).is_file():
        index = _read(folder / INDEX)
        try:
            names = sorted({str(name) for name in index["weight_map"].values()})
        except (AttributeError, KeyError, TypeError):
            return f"has no weight_map in its {INDEX}"
    for name in names:
        if not (folder / name).is_file():
            return f"has no {name} in its folder"
        try:
            with safe_open(folder / name, "np"):  # reads the header, and whether the rest is there
                pass
        except (SafetensorError, OSError) as error:
            return f"has a damaged {name} ({str(error).rstrip('.')}); copy it again"
    return ""


def _read(file: Path) -> Any:
    try:
        return read_json(file)
    except UserError:
        return None
