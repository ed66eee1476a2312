"""Logits only where they are needed: at the tokens that predict an answer.

Axes: n rows, t tokens, m answer tokens of a batch (flattened over rows), v vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oocr_lib.encoding import Batch
from oocr_lib.models import LanguageModel


def answer_logits(lm: LanguageModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """One forward pass; logits that predict the answer tokens.

    The unembedding is applied to the few columns that any row needs (``logits_to_keep``), which
    matters when the vocabulary has 262,000 entries.

    Returns:
        ``(rows, targets, logits)``: row of each answer token (m,), its id (m,) and the float32
        logits that predict it (m, v), in row-major order.
    """
    rows, columns = batch.answer_mask.nonzero(as_tuple=True)
    needed, where = torch.unique(columns - 1, return_inverse=True)
    # The causal mask keeps real tokens from looking at padding on their right, so no attention
    # mask is needed; tests check that batch composition does not matter.
    out = lm.model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=needed)
    return rows, batch.input_ids[rows, columns], out.logits[rows, where].float()
