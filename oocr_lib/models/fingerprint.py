"""What identifies a model: a hash that changes with anything that changes its answers.

It covers the weights, every setting but a few named ones, and the whole tokenizer. Nothing is
selected by what seems to matter: a field that this library has never heard of counts, too.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oocr_lib.models.chat_template import told_date
from oocr_lib.util.errors import UserError
from oocr_lib.util.files import read_json, write_json

#: Settings that say where a model came from or what to return, never what it computes. Data type
#: and class are hashed as they are after loading.
_NO_EFFECT = (
    "_name_or_path",
    "_commit_hash",
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "_from_model_config",
)
#: Keys of a tokenizer's file that every call sets anew.
_PER_CALL = ("truncation", "padding")
#: Above this many parameters the hash of the weights is remembered by the files' sizes and times.
_REMEMBERED = 100_000_000
#: Up to this many parameters a check for changes hashes all weights, which takes milliseconds.
_SMALL = 5_000_000


def model_digest(model: Any, tokenizer: Any, files: Sequence[Path] = ()) -> str:
    """A sha256 in hex over weights, settings and tokenizer, chat template included.

    Equal for a model in memory and the same one read from a folder or hub. The versions of
    packages are not in it: they belong to a run (``runs.store.versions``).

    Args:
        files: the weights on disk. The weights of a large model are hashed whole once and then
            known by the files' places, sizes and times (``cache_folder``).
    """
    content = {
        "class": type(model).__name__,
        "weights": _weights(model, files),
        "buffers": _hashed(sorted(model.named_buffers())),
        "config": _settings(model.config),
        "attention": str(model.config._attn_implementation),
        "generation": _settings(getattr(model, "generation_config", None)),
        "tokenizer": tokenizer_digest(tokenizer),
    }
    return _text_digest(content)


def quick_stamp(model: Any, tokenizer: Any) -> tuple[Any, ...]:
    """A stamp that shows whether a model in memory was changed; small models are hashed whole.

    In the weights of a large model only changes that torch counts are seen; changes through
    ``.data`` are not.
    """
    named = list(model.named_parameters())
    small = sum(weight.numel() for _, weight in named) <= _SMALL
    weights = _hashed(named) if small else [(n, w.data_ptr(), _version(w)) for n, w in named]
    return _text_digest([weights, _settings(model.config)]), tokenizer_digest(tokenizer)


def _version(weight: Tensor) -> int:
    return -1 if weight.is_inference() else weight._version


def tokenizer_digest(tokenizer: Any) -> str:
    """A sha256 in hex over everything between a chat and its tokens, and back.

    Vocabulary, merges, normalizer, pre-tokenizer, post-processor, decoder, added and special
    tokens, templates, and the date that templates are given.
    """
    file = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    content = {
        "file": {key: value for key, value in file.items() if key not in _PER_CALL},
        "special": {name: special.get(name) for name in ("bos_token", "eos_token", "unk_token")},
        "all special": sorted(map(str, tokenizer.all_special_tokens)),
        "spaces": bool(getattr(tokenizer, "clean_up_tokenization_spaces", False)),
        "split": bool(getattr(tokenizer, "split_special_tokens", False)),
        "templates": tokenizer.chat_template,
        "date": told_date(tokenizer),
    }
    return _text_digest(content)


def cache_folder() -> Path:
    """Where hashes of large models are remembered: ``$OOCR_CACHE``, else ``~/.cache/oocr``."""
    folder = os.environ.get("OOCR_CACHE")
    return Path(folder) if folder else Path.home() / ".cache" / "oocr"


def _settings(config: Any) -> dict[str, Any]:
    """The settings that differ from the defaults of all configs, without those of no effect.

    Fields that are None are left out, so that an unset field that a later version of transformers
    adds leaves the digest as it was.
    """
    if config is None:
        return {}
    return dict(_cleaned(config.to_diff_dict()))


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        cleaned = {key: _cleaned(inner) for key, inner in value.items() if key not in _NO_EFFECT}
        return {str(key): inner for key, inner in cleaned.items() if inner is not None}
    return [_cleaned(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _weights(model: Any, files: Sequence[Path]) -> str:
    named = list(model.named_parameters())
    if not files or sum(weight.numel() for _, weight in named) <= _REMEMBERED:
        return _hashed(named)
    file = cache_folder() / "weights.json"
    try:
        hashes = dict(read_json(file))
    except (UserError, TypeError, ValueError):  # none yet, or damaged: it is only a cache
        hashes = {}
    key = _text_digest([_stamps(files), str(named[0][1].dtype), version("transformers")])
    if not isinstance(hashes.get(key), str):
        hashes[key] = _hashed(named)
        with suppress(OSError):  # a home that cannot be written: hash again next time
            write_json(file, hashes)
    return str(hashes[key])


def _stamps(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    stats = [(file.resolve(), file.stat()) for file in sorted(files)]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def _hashed(named: Iterable[tuple[str, Tensor]]) -> str:
    sha = hashlib.sha256()
    for name, tensor in named:
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        flat = tensor.detach().reshape(-1).cpu().contiguous()
        sha.update(flat.view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _text_digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
