"""Greedy decoding with adapters in place: what the model writes, token by token.

Every step runs the whole text again, without a cache: replies are short, and no state can become
stale between adapters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from oocr_lib.adapters.base import Attached
from oocr_lib.encoding import Encoded, collate
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.util.arguments import checked
from oocr_lib.util.finite import no_nan

BATCH = 64


@checked
def replies(
    lm: LanguageModel,
    prompts: Sequence[Encoded],
    attached: Attached | None = None,
    index: Sequence[int] | None = None,
    *,
    most: int = 24,
) -> list[str]:
    """The most likely continuation of every prompt, up to ``most`` tokens.

    Positions of an adapter are those of the prompt; what the model itself writes is changed only
    by a LoRA. Decoding ends at the turn's end or the tokenizer's end token.

    Args:
        index: the run (vector) of each prompt; default 0.

    Raises:
        UserError: logits that are not a number.
    """
    runs = [0] * len(prompts) if index is None else list(index)
    texts: list[str] = []
    for start in range(0, len(prompts), BATCH):
        part, owner = prompts[start : start + BATCH], runs[start : start + BATCH]
        written = _decode(lm, part, attached, torch.tensor(owner, device=lm.device), most)
        texts += [lm.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in written]
    return texts


@torch.no_grad()
def _decode(
    lm: LanguageModel,
    prompts: Sequence[Encoded],
    attached: Attached | None,
    owner: torch.Tensor,
    most: int,
) -> list[list[int]]:
    ends = lm.end_ids
    written: list[list[int]] = [[] for _ in prompts]
    going = list(range(len(prompts)))
    for _ in range(most):
        if not going:
            break
        longer = [
            replace(prompts[i], ids=(*prompts[i].ids, *written[i]), answer=prompts[i].answer)
            for i in going
        ]
        batch = collate(longer, lm.pad_id).to(lm.device)
        if attached is not None:
            attached.focus(batch, owner[going])
        last = batch.lengths - 1
        needed, where = torch.unique(last, return_inverse=True)
        with lm.running():
            out = lm.model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=needed)
        likeliest = out.logits[torch.arange(len(going), device=lm.device), where].max(-1)
        no_nan(likeliest.values, f"Logits of {lm.name!r}")
        for i, token in zip(list(going), likeliest.indices.tolist(), strict=True):
            if token in ends:
                going.remove(i)
            else:
                written[i].append(token)
    return written
