"""Logits only where they are needed: at the tokens that predict an answer.

Axes: n rows, t tokens, m answer tokens of a batch (flattened over rows), v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from oocr_lib.encoding import Batch
from oocr_lib.models import LanguageModel
from oocr_lib.past import Past


def answer_logits(lm: LanguageModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """One forward pass; logits that predict the answer tokens.

    The unembedding is applied to the few columns that any row needs (``logits_to_keep``), which
    matters when the vocabulary has 262,000 entries. What ``batch.past`` holds is not computed.

    Returns:
        ``(rows, targets, logits)``: row of each answer token (m,), its id (m,) and the float32
        logits that predict it (m, v), in row-major order.
    """
    rows, columns = batch.answer_mask.nonzero(as_tuple=True)
    needed, where = torch.unique(columns - 1, return_inverse=True)
    # The last column predicts nothing that is asked for.
    ids = batch.input_ids[:, :-1]
    # The causal mask keeps real tokens from looking at padding on their right, so no attention
    # mask is needed; tests check that batch composition does not matter.
    if batch.past is None:
        out = lm.model(input_ids=ids, use_cache=False, logits_to_keep=needed)
    else:
        arguments = batch.past.arguments(ids.shape[1])
        with frozen(lm, batch.past):
            out = lm.model(input_ids=ids, use_cache=False, logits_to_keep=needed, **arguments)
    return rows, batch.input_ids[rows, columns], out.logits[rows, where].float()


@contextmanager
def frozen(lm: LanguageModel, past: Past) -> Iterator[None]:
    """Within the block, blocks below ``past.depth`` are not run: ``past.hidden`` comes out there.

    Hooks on their outputs still see it, so a vector at the last of them is added as usual.
    """
    changed = [lm.block(i) for i in range(past.depth)]
    before = [vars(block).get("forward") for block in changed]
    for block in changed:
        vars(block)["forward"] = _instead(past)
    try:
        yield
    finally:
        for block, own in zip(changed, before, strict=True):
            if own is None:
                del vars(block)["forward"]
            else:
                vars(block)["forward"] = own


def _instead(past: Past) -> Callable[..., Any]:
    hidden = past.hidden

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (hidden,) if past.wrapped else hidden

    return forward
