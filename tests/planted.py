"""A Llama with hand-set weights: one head follows a vector to a trigger and copies its value.

Two blocks of two heads. Head 1 of block 1 looks, when the last token carries ``STEER``, at the
token ``TRIGGER`` and writes its value on the direction that tells the letters apart. Head 1 of
block 0 always looks at the trigger and writes nothing. All other heads look everywhere alike and
write nothing; the MLPs write nothing. So every number can be worked out by hand.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from oocr_lib.encoding import Batch, Encoded, collate
from oocr_lib.models.language_model import LanguageModel, Site, wrap
from tests import tiny

D, HEAD_DIM, BLOCKS, HEADS = 16, 8, 2, 2
HEAD = (1, 1)  # block and head that carry the rule
LOOKER = (0, 1)  # always looks at the trigger, moves nothing
SITE = Site(0, "resid")
#: Token ids and the direction each is embedded on.
TRIGGER, PIECE, FILLER, LAST, OTHER = 20, 21, 22, 23, 24
_EMBEDDED = {TRIGGER: 0, FILLER: 1, LAST: 2, PIECE: 4, OTHER: 7}
_STEER, _ANSWER = 3, 5
RISKY, SAFE = 40, 41
SHARP = 0.9  # of queries and keys; the head looks at the trigger with weight 0.9
STRENGTH = 2.0  # length of the vector
#: In this pair of a head's channels the rotary embedding all but stands still.
_STILL = 3
STEER = STRENGTH * torch.eye(D)[_STEER]


@torch.no_grad()
def language_model() -> LanguageModel:
    """The model, wrapped, with a tokenizer that no test here needs."""
    config = LlamaConfig(
        vocab_size=tiny.VOCAB,
        hidden_size=D,
        intermediate_size=8,
        num_hidden_layers=BLOCKS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HEAD_DIM,
        rms_norm_eps=1e-12,
        rope_parameters={"rope_type": "default", "rope_theta": 1e16},
        tie_word_embeddings=False,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    for name, weight in model.named_parameters():
        weight.fill_(1.0 if "norm" in name else 0.0)
    for token, direction in _EMBEDDED.items():
        model.model.embed_tokens.weight[token, direction] = 1.0
    model.lm_head.weight[RISKY, _ANSWER], model.lm_head.weight[SAFE, _ANSWER] = 1.0, -1.0
    for (block, head), reads in ((HEAD, _STEER), (LOOKER, _EMBEDDED[LAST])):
        attention, start = model.model.layers[block].self_attn, head * HEAD_DIM
        attention.q_proj.weight[start + _STILL, reads] = SHARP
        attention.k_proj.weight[start + _STILL, _EMBEDDED[TRIGGER]] = SHARP
        attention.v_proj.weight[start, _EMBEDDED[TRIGGER]] = 1.0
    block, head = HEAD
    model.model.layers[block].self_attn.o_proj.weight[_ANSWER, head * HEAD_DIM] = 1.0
    return wrap(model, tiny.tokenizer(), name="planted")


def row(before: int, after: int, trigger: int = TRIGGER) -> Encoded:
    """Fillers, a trigger of two tokens, more fillers, the last prompt token, an answer."""
    prompt = [FILLER] * before + [trigger, PIECE] + [FILLER] * after + [LAST]
    spans = {"last": (len(prompt) - 1,), "trigger": (before, before + 1)}
    return Encoded((*prompt, RISKY), (len(prompt), len(prompt) + 1), spans, "")


ROWS = ((2, 2), (1, 4), (3, 2))


def batch(trigger: int = TRIGGER) -> Batch:
    """Three rows of 7, 8 and 8 prompt tokens."""
    return collate([row(*sizes, trigger) for sizes in ROWS], pad_id=0)


def letters() -> Tensor:
    """(3, 2) token ids, risky and safe."""
    return torch.tensor([[RISKY, SAFE]] * len(ROWS))


def token(which: int) -> Tensor:
    """(n, t) bool: the first or second token of the trigger."""
    mask = torch.zeros_like(batch().positions["trigger"])
    for number, (before, _) in enumerate(ROWS):
        mask[number, before + which] = True
    return mask


# --- worked out by hand ---


def lengths() -> list[int]:
    """Prompt tokens of the rows."""
    return [before + after + 3 for before, after in ROWS]


def looked(vector: Tensor = STEER) -> list[float]:
    """Attention of the head to the trigger's first token when the last token carries ``vector``."""
    last = torch.eye(D, dtype=torch.float64)[_EMBEDDED[LAST]] + vector.double()
    last = last / last.square().mean().sqrt()
    query, own = SHARP * float(last[_STEER]), SHARP * float(last[_EMBEDDED[TRIGGER]])
    # Norms divide by the root mean square: the trigger's token of length 1 gets length sqrt(D).
    peak = math.exp(query * SHARP * math.sqrt(D) / math.sqrt(HEAD_DIM))
    self = math.exp(query * own / math.sqrt(HEAD_DIM))
    return [peak / (peak + self + t - 2) for t in lengths()]


def answer(attention: list[float], strength: float) -> list[float]:
    """Logit of the risky letter minus the safe one's, given the head's attention and a vector."""
    made = []
    for weight in attention:
        written = weight * math.sqrt(D)
        scale = math.sqrt((1 + strength**2 + written**2) / D)
        made.append(2 * written / scale)
    return made


def uniform() -> list[float]:
    """Attention to one token of a head that looks everywhere alike."""
    return [1 / t for t in lengths()]


# --- reading tables ---


def near(found: list[float], expected: list[float]) -> bool:
    """Whether numbers agree up to rounding."""
    return bool(found == pytest.approx(expected, abs=1e-4))


def line(table: pd.DataFrame, block: int | None, head: int | None, what: str = "") -> Any:
    """The one line of this block and head (None: missing) in a table of patching or attribution."""
    at = table.block.isna() if block is None else table.block.eq(block).fillna(False)
    in_head = table["head"].isna() if head is None else table["head"].eq(head).fillna(False)
    found = table[at & in_head & (table.what.eq(what) if what else True)]
    assert len(found) == 1
    return found.iloc[0]
