"""How much may be held in memory: pools of what is reused, and the graph of one training step.

A budget is a share of an accelerator's free memory, or a fixed size on a CPU, where pools take less
if little is free. What does not fit is computed again (pools) or in several passes (steps); the
numbers stay the same up to rounding.
"""

from __future__ import annotations

import torch

from oocr_lib.encoding import PASS_TOKENS
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.room import free_bytes

#: Most bytes of all pools of a ``prefix_cache.Pools`` together, on a CPU.
CPU_POOLS = 2 * 1024**3
#: Largest share of the free memory that pools take on a CPU: a laptop with 4 GB has 2 free.
CPU_SHARE_POOLS = 0.25
#: Bytes of the graph of one step on a CPU.
CPU_STEP = 512 * 1024**2
#: Tokens of a training pass on a CPU: larger passes are no faster there, and smaller ones can be
#: built from rows of one length, with less padding.
CPU_PASS = 1500
#: Shares of an accelerator's free memory for the same.
SHARE_POOLS = 0.4
SHARE_STEP = 0.4
#: Numbers that autograd keeps for a token in one block, in multiples of its two widths: a quarter
#: more than was counted on Gemma 3.
_PER_WIDTH, _PER_MLP_WIDTH = 10, 4
#: Cached tokens whose keys and values take as much memory as one token's graph.
PAST_PER_TOKEN = 32


def pool_budget(device: torch.device) -> int:
    """Bytes that pools may take on ``device``."""
    if device.type == "cuda":
        return int(free_bytes(device) * SHARE_POOLS)
    return min(CPU_POOLS, int(free_bytes(device) * CPU_SHARE_POOLS))


def step_tokens(lm: LanguageModel, budget: int | None = None) -> int:
    """Tokens of one forward and backward pass, at least 1.

    Args:
        budget: bytes; default the device's budget for a step.
    """
    cuda = lm.device.type == "cuda"
    if budget is None:
        budget = int(free_bytes(lm.device) * SHARE_STEP) if cuda else CPU_STEP
    fits = max(1, budget // token_bytes(lm))
    return fits if cuda else min(fits, CPU_PASS)


def pass_tokens(lm: LanguageModel) -> int:
    """Tokens of one pass without gradient whose outputs at every block are kept for a while.

    On a CPU they take a small part of what a training step may take, so that filling a pool does
    not need the most memory.
    """
    if lm.device.type == "cuda":
        return PASS_TOKENS
    return max(1, min(CPU_PASS, CPU_STEP // 2 // token_bytes(lm)))


def token_bytes(lm: LanguageModel) -> int:
    """About how many bytes autograd keeps for one token."""
    config = lm.model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    inner = inner or 4 * lm.d_model  # GPT-2 leaves it out
    numbers = lm.n_blocks * (_PER_WIDTH * lm.d_model + _PER_MLP_WIDTH * inner)
    return int(numbers * lm.model.dtype.itemsize)
