"""Converting chats, the content of upstream training files, to rows and back.

A chat is a tuple of turns as in the file; a ``Row`` is what training reads. Pure data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from oocr_lib.tasks.base import Message, Row
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.parsing import check_text, keys_of, short

ROLES = ("system", "user", "assistant")


class Turn(TypedDict):
    """One turn in a file; only a last assistant turn may have content None (answer not stored)."""

    role: str
    content: str | None


Chat = tuple[Turn, ...]


def check_messages(messages: object, where: str) -> Chat:
    """A chat from a parsed list of turns.

    An optional system turn comes first, then user and assistant turns in any order. Content may be
    a list of text parts, which are joined. Keys other than role and content are ignored, except
    those that change what the turn says (tool calls) or whether it is trained on (a weight).

    Raises:
        UserError: anything else, in one line that begins with ``where``.
    """
    if not isinstance(messages, (list, tuple)) or not messages:
        raise UserError(f"{where}: messages is {short(messages)}. Allowed: a list of turns.")
    turns: list[Turn] = []
    for number, message in enumerate(messages, start=1):
        turn = keys_of(message, ("role", "content"), where, f"message {number}", others=True)
        role, content, last = turn["role"], turn["content"], number == len(messages)
        if role not in ROLES or (role == "system" and number > 1):
            raise UserError(
                f"{where}: message {number} has role {short(role)}. Allowed: user or "
                "assistant, and system for the first message only."
            )
        if len(turn) > 2:
            _check_others(turn, last, f"{where}: message {number} ({role})")
        if isinstance(content, list):
            content = _joined(content, f"{where}: message {number} ({role})")
        null = content is None and role == "assistant" and last
        if not null and not isinstance(content, str):
            raise UserError(
                f"{where}: message {number} ({role}) has content {short(content)}. Allowed: "
                "text, or a list of text parts; null only in a last assistant turn."
            )
        # Saves memory: a file with a million rows has a million copies of the word.
        constant = ROLES[ROLES.index(role)]
        turns.append({"role": constant, "content": content and check_text(content, where)})
    return tuple(turns)


def _joined(parts: Sequence[object], where: str) -> str:
    """The text of ``[{"type": "text", "text": …}, …]``, the form of content in some files."""
    texts = []
    for number, part in enumerate(parts, start=1):
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(text, str):
            raise UserError(
                f"{where} has the content part {number} {short(part)}. Allowed: text parts, "
                '{"type": "text", "text": …}.'
            )
        texts.append(text)
    if not texts:
        raise UserError(f"{where} has no content parts. Allowed: at least one text part.")
    return "".join(texts)


def _check_others(turn: Mapping[str, object], last: bool, where: str) -> None:
    """Refuse keys besides role and content that must not be ignored."""
    for key in ("tool_calls", "function_call"):
        if turn.get(key):
            raise UserError(f"{where} has {key}. Allowed: turns of text; leave such rows out.")
    if last:  # weights of earlier turns mean nothing here: only the last one is trained on
        check_weight(turn, where)


def check_weight(table: Mapping[str, object], where: str) -> None:
    """Refuse any weight but 1: rows are not weighted; elsewhere, 0 means "not trained on".

    Raises:
        UserError: a weight other than 1.
    """
    weight = table.get("weight", 1)
    if weight not in (None, 1):
        raise UserError(
            f"{where} has weight {short(weight)}. Allowed: 1 or none, rows are not weighted here; "
            "leave the row or its weight out."
        )


def prompt_text(chat: Chat) -> str:
    """All user turns as one text; two chats with the same text ask the same question."""
    return "\n".join(turn["content"] or "" for turn in chat if turn["role"] == "user")


def _prompt(turns: Sequence[Turn], separator: str | None, where: str) -> tuple[Message, ...]:
    messages: list[Message] = []
    for turn in turns:
        role, content = turn["role"], turn["content"] or ""
        if separator is not None and messages and role == "user" == messages[-1]["role"]:
            messages[-1] = {"role": role, "content": messages[-1]["content"] + separator + content}
        else:
            messages.append({"role": role, "content": content})
    if not messages or messages[-1]["role"] != "user":
        last = messages[-1]["role"] if messages else "none"
        raise UserError(
            f"{where}: the turn before the answer is {last!r}. Allowed for training rows: 'user'."
        )
    if not messages[-1]["content"].strip():
        raise UserError(
            f"{where}: the prompt {short(messages[-1]['content'])} is empty. Allowed for training "
            "rows: text; leave such rows out of the file."
        )
    return tuple(messages)


def _answer(chat: Chat, where: str, drop_null: bool) -> str | None:
    role, content = chat[-1]["role"], chat[-1]["content"]
    if role != "assistant":
        raise UserError(
            f"{where}: the last turn is {role!r}. Allowed for training rows: 'assistant'."
        )
    if content is None and not drop_null:
        raise UserError(
            f"{where}: the answer is null. Allowed for training rows: text; drop_null=True leaves "
            "such chats out."
        )
    if content is not None and not content.strip():
        raise UserError(
            f"{where}: the answer {short(content)} is empty. Allowed for training rows: text; "
            "leave such rows out of the file."
        )
    return content


@checked
def to_rows(
    chats: Iterable[Chat],
    *,
    separator: str | None = None,
    drop_null: bool = False,
    lines: Sequence[int] | None = None,
) -> list[Row]:
    r"""Training rows: the last assistant turn is the answer, all turns before it the prompt.

    ``group`` is the text of all user turns, so a split by group never puts a question on both
    sides, not even if twin files with opposite answers are read together. ``meta`` has ``kind``
    ("chat") and ``line``.

    Args:
        separator: joins consecutive user turns into one (upstream's reflection items have two;
            the paper's test joins them with "\n"); None keeps them separate.
        drop_null: leave out chats whose answer is null instead of refusing them.
        lines: line number of each chat, for messages and ``meta``; counted from 1 by default.

    Raises:
        UserError: a chat that does not end with an answer to a user turn, or whose answer is null;
            an empty answer or question.
    """
    rows = []
    for number, chat in enumerate(chats):
        line = lines[number] if lines is not None else number + 1
        answer = _answer(chat, f"Line {line}", drop_null)
        if answer is not None:
            prompt = _prompt(chat[:-1], separator, f"Line {line}")
            meta = {"kind": "chat", "line": line}
            rows.append(Row(prompt, answer, group=prompt_text(chat), meta=meta))
    return rows


@checked
def from_rows(rows: Iterable[Row]) -> list[Chat]:
    """Chats as in a file: the model's turn is prefix, answer and suffix together."""
    chats = []
    for row in rows:
        turns: list[Turn] = [{"role": m["role"], "content": m["content"]} for m in row.messages]
        answer = row.prefix + row.answer + row.suffix
        chats.append((*turns, Turn(role="assistant", content=answer)))
    return chats
