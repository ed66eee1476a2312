"""What identifies a model: a hash that changes with anything that changes its answers."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

_HASH_LIMIT = 100_000_000  # parameters; above it a digest samples every tensor
_HASH_SAMPLE = 4096  # elements a tensor in that case
# Settings that change the function without changing a weight's shape. The whole config would not
# do: its defaults differ between versions of transformers.
_CONFIG_FIELDS = (
    "model_type",
    "layer_types",
    "sliding_window",
    "num_attention_heads",
    "rope_parameters",
    "rms_norm_eps",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "final_logit_softcapping",
)


def model_digest(model: Any, tokenizer: Any, name: str, revision: str | None) -> str:
    """A sha256 in hex over weights, settings, vocabulary and chat template.

    A large hub model is named by its commit instead, as ``name@revision``; of another large model
    a fixed sample of every tensor is hashed.
    """
    state = model.state_dict()
    small = sum(tensor.numel() for tensor in state.values()) <= _HASH_LIMIT
    if revision and not small:
        return f"{name}@{revision}"
    sha = hashlib.sha256()
    for key in sorted(state):
        flat = state[key].detach().reshape(-1)
        sha.update(f"{key} {tuple(state[key].shape)} {flat.dtype}".encode())
        step = 1 if small else max(1, flat.numel() // _HASH_SAMPLE)
        sha.update(flat[::step].cpu().contiguous().view(torch.uint8).numpy().tobytes())
    config = model.config.get_text_config()
    settings = {field: getattr(config, field, None) for field in _CONFIG_FIELDS}
    sha.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for token, number in sorted(tokenizer.get_vocab().items()):
        sha.update(f"{token}\t{number}\n".encode())
    sha.update(str(tokenizer.chat_template).encode())
    return sha.hexdigest()
