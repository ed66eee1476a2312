"""The ``*_dataset.json`` files that upstream's Functions writes beside its chats.

An indented array of objects with ``func_outs`` (how the item was drawn), ``target`` (the right
answer, or a list of right answers) and ``messages``. With a list, the last answer is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oocr_lib.tasks.chatfiles.chats import ROLES, Chat, check_messages
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.parsing import (
    BOM,
    AnyPath,
    check_text,
    decode,
    keys_of,
    parse,
    require_file,
    short,
)


@dataclass(frozen=True)
class DatasetItem:
    """One item of a Functions data set.

    Attributes:
        messages: the chat; its last answer is null if there are several targets.
        target: the right answer, or all right answers.
        func_outs: how the item was drawn, by name.
    """

    messages: Chat
    target: str | tuple[str, ...]
    func_outs: Mapping[str, Any]


@checked
def load(path: AnyPath) -> list[DatasetItem]:
    """The items of an upstream ``*_dataset.json``, an array of func_outs, target and messages.

    Raises:
        UserError: not UTF-8, not such an array, or an item whose answer and target disagree; the
            message gives the item's number.
    """
    where = f"File {str(path)!r}"
    require_file(path)
    text = decode(Path(path).read_bytes().removeprefix(BOM), where)
    items = parse(text, where, "Allowed: an array of items; for one object a line use jsonl.load.")
    if not isinstance(items, list) or not items:
        raise UserError(f"{where}: {short(items)} is no array of items. Allowed: at least one.")
    return [_item(item, f"{where}, item {number}") for number, item in enumerate(items, start=1)]


def _item(item: object, where: str) -> DatasetItem:
    content = keys_of(item, ("func_outs", "target", "messages"), where, "the item")
    chat, target, outs = (content[key] for key in ("messages", "target", "func_outs"))
    chat = check_messages(chat, where)
    several = isinstance(target, list) and target and all(isinstance(t, str) for t in target)
    if not isinstance(target, str) and not several:
        raise UserError(f"{where}: target {short(target)}. Allowed: text or a list of texts.")
    if not isinstance(outs, dict):
        raise UserError(f"{where}: func_outs {short(outs)}. Allowed: a table.")
    expected, answer = (None if several else target), chat[-1]["content"]
    if chat[-1]["role"] != ROLES[2] or answer != expected:
        raise UserError(
            f"{where}: the last turn says {short(answer)}, the target is {short(target)}. Allowed: "
            "the target as the last assistant turn, null for a list of targets."
        )
    for text in target:
        check_text(text, where)
    return DatasetItem(chat, tuple(target) if several else target, outs)
