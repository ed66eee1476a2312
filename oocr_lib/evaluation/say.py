"""Ask a model a question and read its most likely answer, with or without an adapter."""

from __future__ import annotations

import torch

from oocr_lib.adapters.base import Attached
from oocr_lib.adapters.row_checks import lacks, position_of, unmarked
from oocr_lib.encoding import collate, encode
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.tasks.base import user
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.finite import no_nan


@checked
@torch.no_grad()
def say(
    lm: LanguageModel,
    question: str,
    attached: Attached | None = None,
    *,
    codename: str = "",
    max_new_tokens: int = 12,
) -> str:
    """Greedy answer to a question in one user turn.

    Args:
        attached: an adapter in place; it is pointed at ``codename`` in the question.
        codename: the literal code name; it must occur in the question if given.

    Raises:
        UserError: an empty question; an adapter at the code name and no code name; logits that are
            not a number.
    """
    if not question.strip():
        raise UserError(f"The question {question!r} is empty. Allowed: text.")
    marks = {"codename": (codename,)} if codename else {}
    prompt = encode(lm.tokenizer, user(question), "", marks)
    position = position_of(attached)
    if lacks(prompt, position):
        todo = "give codename=, the literal name in it"
        raise unmarked(f"The question {question!r}", position, todo)
    stop = {lm.tokenizer.eos_token_id, *_ends(lm)}
    ids, spoken = list(prompt.ids), list[int]()
    for _ in range(max_new_tokens):
        batch = collate([prompt], lm.pad_id).to(lm.device)
        # The prompt stays the focused part; the answer's tokens are appended behind it.
        batch.input_ids = torch.tensor([ids], device=lm.device)
        extra = len(ids) - len(prompt.ids)
        batch.positions = {
            name: torch.nn.functional.pad(mask, (0, extra))
            for name, mask in batch.positions.items()
        }
        if attached is not None:
            attached.focus(batch)
        logits = lm.model(input_ids=batch.input_ids, use_cache=False).logits
        no_nan(logits[0, -1], f"Logits of {lm.name!r}")
        token = int(logits[0, -1].argmax())
        if token in stop:
            break
        ids.append(token)
        spoken.append(token)
    return str(lm.tokenizer.decode(spoken)).strip()


def _ends(lm: LanguageModel) -> set[int]:
    """End-of-sequence ids of the model's generation settings, if it has any."""
    ends = getattr(getattr(lm.model, "generation_config", None), "eos_token_id", None)
    return set(ends if isinstance(ends, list) else [ends]) - {None}
