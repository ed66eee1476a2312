"""Chat turns to text, by the tokenizer's own template.

Two facts decide the result and are stated here once: consecutive user turns are joined by a
newline unless told otherwise, and a system text goes in front of the first user turn, after a
blank line, where the template has no system role (as in the paper's training rows).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError

from oocr_lib.errors import UserError, choose
from oocr_lib.tasks.base import Message

_ROLES = ("system", "user", "assistant")


def render(tokenizer: Any, messages: Sequence[Message], separator: str = "\n") -> str:
    """The prompt as text: chat turns and the header of the answer's turn.

    Consecutive user turns are joined by ``separator``. A template without a system role gets the
    system text at the start of the first user turn, with a blank line between. Without a chat
    template the turns are joined by newlines and end in one.

    Raises:
        UserError: no messages, an unknown role, a last turn that is not the user's, or a template
            that refuses the turns.
    """
    turns = _join_user_turns(messages, separator)
    if not tokenizer.chat_template:
        start = tokenizer.bos_token or ""
        # Write the start token only where the tokenizer itself would put it.
        with_start = tokenizer("", add_special_tokens=True)["input_ids"][:1]
        lead = start if with_start and with_start[0] == tokenizer.bos_token_id else ""
        return lead + "".join(turn["content"] + "\n" for turn in turns)
    try:
        text = _apply_template(tokenizer, turns)
    except TemplateError:
        text = None  # the template refuses a system turn, or these turns altogether
    if turns[0]["role"] == "system" and (text is None or turns[0]["content"].strip() not in text):
        turns = _merge_system(turns)
        text = None
    return _apply_template_or_refuse(tokenizer, turns) if text is None else text


def _join_user_turns(messages: Sequence[Message], separator: str) -> list[Message]:
    turns: list[Message] = []
    for number, message in enumerate(messages):
        role = choose(message["role"], _ROLES, "role")
        if role == "system" and number > 0:
            raise UserError(
                f"Message {number} is a system turn. Allowed: one system turn, in first place."
            )
        if role == "user" and turns and turns[-1]["role"] == "user":
            joined = turns[-1]["content"] + separator + message["content"]
            turns[-1] = {"role": "user", "content": joined}
        else:
            turns.append({"role": role, "content": message["content"]})
    if not turns or turns[-1]["role"] != "user":
        last = turns[-1]["role"] if turns else "missing"
        raise UserError(
            f"The last turn of a prompt is {last!r}. Allowed: 'user'; the answer is given apart."
        )
    return turns


def _merge_system(turns: Sequence[Message]) -> list[Message]:
    system, first, *rest = turns
    if first["role"] != "user":
        raise UserError(f"A {first['role']!r} turn follows the system turn. Allowed: 'user'.")
    merged: Message = {
        "role": "user",
        "content": f"{system['content']}\n\n{first['content']}",
    }
    return [merged, *rest]


def _apply_template(tokenizer: Any, turns: Sequence[Message]) -> str:
    # Templates without a thinking mode ignore the last argument; Qwen 3 would else start to think.
    return str(
        tokenizer.apply_chat_template(
            list(turns),
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
    )


def _apply_template_or_refuse(tokenizer: Any, turns: Sequence[Message]) -> str:
    try:
        return _apply_template(tokenizer, turns)
    except TemplateError as error:
        roles = ", ".join(turn["role"] for turn in turns)
        raise UserError(
            f"The chat template refuses the turns ({roles}): {error}. Allowed: an optional system "
            "turn, then user and assistant in turn, user last."
        ) from error


def turn_end(tokenizer: Any) -> str:
    """What the template writes right after the model's words, ``<end_of_turn>`` or the like.

    Without a chat template a newline, which is what ``render`` joins turns with.
    """
    if not tokenizer.chat_template:
        return "\n"
    question: Message = {"role": "user", "content": "x"}
    answer: Message = {"role": "assistant", "content": "yqy"}
    whole = str(tokenizer.apply_chat_template([question, answer], tokenize=False))
    after = whole.rpartition("yqy")[2].strip()
    ids = tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
    return str(tokenizer.decode(ids[:1])) if ids else ""


def end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a reply: the template's turn end, every end token of tokenizer and model."""
    generation = getattr(model, "generation_config", None)
    found: list[Any] = [tokenizer.eos_token_id]
    for config in (model.config.get_text_config(), generation):
        listed = getattr(config, "eos_token_id", None)
        found += listed if isinstance(listed, (list, tuple)) else [listed]
    if tokenizer.chat_template and (end := turn_end(tokenizer)):
        found += tokenizer(end, add_special_tokens=False)["input_ids"][:1]
    return frozenset(int(i) for i in found if isinstance(i, int))
