"""Ask a model a question and read its most likely answer, with or without an adapter."""

from __future__ import annotations

from oocr_lib.adapters.base import Attached
from oocr_lib.adapters.row_checks import lacks, position_of, unmarked
from oocr_lib.encoding import encode
from oocr_lib.evaluation.generation import replies
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.tasks.base import user
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError


@checked
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
    return replies(lm, [prompt], attached, most=max_new_tokens)[0]
