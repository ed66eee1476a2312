"""Upstream chat files, read and written without changing a byte.

One object per line with the key ``messages``; each message has ``role`` and ``content``, in this
order. Otherwise the published files differ: non-ASCII letters raw or escaped, LF or CRLF, with or
without a line break at the end. ``Style`` holds these choices; lines that the style would write
differently, such as those with other keys (``id``) or content in parts, are kept as they are.
``load`` reads a file so that it can be written again. For the arrays that Functions writes beside
its files, see ``dataset_json``.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from oocr_lib.tasks.base import Row
from oocr_lib.tasks.chatfiles import chats as chats_module
from oocr_lib.tasks.chatfiles.chats import (
    Chat,
    check_messages,
    check_weight,
    from_rows,
)
from oocr_lib.tasks.chatfiles.dataset_json import load as load_dataset_json
from oocr_lib.tasks.chatfiles.file_bytes import FileBytes, LazyRows, MarkedLines
from oocr_lib.tasks.chatfiles.letters import letter_rows
from oocr_lib.util.arguments import checked, checked_fields
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.parsing import BOM, AnyPath, decode, keys_of, parse, require_file

__all__ = [
    "Chat",
    "ChatFile",
    "Style",
    "from_rows",
    "letter_rows",
    "load",
    "load_dataset_json",
    "to_rows",
    "write",
]
ENDINGS = ("\n", "\r\n")
SEPARATORS = tuple((item, key) for item in (", ", ",") for key in (": ", ":"))


@checked_fields
@dataclass(frozen=True)
class Style:
    r"""How a file spells its rows.

    Attributes:
        ascii: non-ASCII letters are escaped (``\u00e3``) rather than raw UTF-8.
        ending: line break, "\n" or "\r\n".
        final_break: the last row ends in a line break, too.
        separators: between items, and between key and value.
        bom: the file begins with a byte-order mark.

    Raises:
        UserError: an unknown line break or separator.
    """

    ascii: bool = True
    ending: str = "\n"
    final_break: bool = True
    separators: tuple[str, str] = (", ", ": ")
    bom: bool = False

    def __post_init__(self) -> None:
        choose(self.ending, ENDINGS, "line ending")
        choose(self.separators, SEPARATORS, "pair of separators")

    def spell(self, chat: Chat) -> bytes:
        """The chat as one line, without its line break."""
        turns = [{"role": turn["role"], "content": turn["content"]} for turn in chat]
        content = {"messages": turns}
        text = json.dumps(content, ensure_ascii=self.ascii, separators=self.separators)
        return text.encode("utf-8")


@dataclass(frozen=True)
class ChatFile:
    """A file in memory; iterating gives its chats.

    Attributes:
        rows: the chats, in file order; with ``load`` they are parsed on access, so that a file
            takes little more memory than its size.
        style: how most of the file is written.
        lines: line number of each row, counted from 1 including blank lines.
        kept: line number to original bytes, for blank lines and every line that ``style`` would
            write differently (another line break, other escapes, content before role).
    """

    path: str
    rows: Sequence[Chat]
    style: Style
    lines: Sequence[int]
    kept: Mapping[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.lines) or not self.rows:
            raise UserError(
                f"{len(self.rows)} chats for {len(self.lines)} lines. Allowed: one chat a line; to "
                "write other chats, pass them as a list with style=file.style."
            )
        for before, line in pairwise(self.lines):
            if line <= before:
                raise UserError(
                    f"Line {line} comes after line {before}. Allowed: rising line numbers."
                )

    def __iter__(self) -> Iterator[Chat]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def pieces(self) -> Iterator[bytes]:
        """The file's bytes as they were read, line by line."""
        last = max(self.lines[-1], max(self.kept, default=0))
        rows = zip(self.lines, self.rows, strict=True)
        line, chat = next(rows)
        for number in range(1, last + 1):
            raw = self.kept.get(number)
            # A kept line is used as long as it still agrees with its row.
            if raw is not None and (number != line or _chat(raw, self.path) == chat):
                yield raw
            else:
                end = self.style.ending if number < last or self.style.final_break else ""
                yield self.style.spell(chat) + end.encode()
            if number == line:
                line, chat = next(rows, (line, chat))


def _chat(raw: bytes, where: str) -> Chat | None:
    """The chat of one line, or None for a blank line."""
    text = decode(raw, where)
    if not text.strip(" \t\r\n"):
        return None
    hint = "Allowed: one object a line; for an array use load_dataset_json."
    content = keys_of(parse(text, where, hint), ("messages",), where, "the row", others=True)
    check_weight(content, f"{where}: the row")
    return check_messages(content["messages"], where)


def _lines(file: BinaryIO, path: AnyPath) -> Iterator[tuple[int, bytes, Chat | None]]:
    """Line number, bytes without a byte-order mark, and chat; binary files split only at LF."""
    has_rows = False
    for number, raw in enumerate(file, start=1):
        raw = raw.removeprefix(BOM) if number == 1 else raw
        chat = _chat(raw, f"File {str(path)!r}, line {number}")
        has_rows = has_rows or chat is not None
        yield number, raw, chat
    if not has_rows:
        raise UserError(f"File {str(path)!r} has no rows. Allowed: at least one chat.")


def _split_break(raw: bytes) -> tuple[bytes, str]:
    """A line without its line break, and the line break."""
    end = next((end for end in ("\r\n", "\n") if raw.endswith(end.encode())), "")
    return raw[: len(raw) - len(end)], end


def _styles(line: bytes, chat: Chat) -> tuple[Style, Style]:
    """Styles with and without escapes, with the separators of the file's first row."""
    styles = [(Style(True, separators=pair), Style(False, separators=pair)) for pair in SEPARATORS]
    fits = (pair for pair in styles if any(style.spell(chat) == line for style in pair))
    return next(fits, styles[0])


def _unlike(style: Style, spelled: bytearray, ends: bytearray) -> bytearray:
    """1 for every line that the style would write differently."""
    breaks = bytes([len(style.ending)]) * len(ends)
    if not style.final_break:
        breaks = breaks[:-1] + b"\0"
    return bytearray(
        not fits or end != line_break
        for fits, end, line_break in zip(spelled, ends, breaks, strict=True)
    )


def _ascii(data: bytes) -> bool:
    return data.isascii() or (data.startswith(BOM) and data[len(BOM) :].isascii())


def _read(path: str, raw: bytes) -> Chat:
    """The chat of a line that is known to hold one."""
    chat = _chat(raw, f"File {path!r}")
    assert chat is not None
    return chat


@checked
def load(path: AnyPath) -> ChatFile:
    """A whole file: its chats, its style, and the lines that deviate from the style.

    Mixed line breaks, blank lines and unusual spellings are read, and ``write`` reproduces them.
    The style is that of most lines; separators are those of the first row.

    Raises:
        UserError: no such file; a line that is not UTF-8, JSON or a chat, with its number; a file
            without rows.
    """
    require_file(path)
    data = Path(path).read_bytes()
    bom = data.startswith(BOM)
    file, numbers = FileBytes(data, array("q", [len(BOM) if bom else 0])), array("q")
    # One byte per line: whether the style with escapes, or the one without, spells it; and the
    # length of its line break.
    spelled, ends = (bytearray(), bytearray()), bytearray()
    styles: tuple[Style, Style] | None = None
    for number, raw, chat in _lines(BytesIO(data), path):
        file.starts.append(file.starts[-1] + len(raw))
        line, end = _split_break(raw)
        ends.append(len(end))
        if chat is not None:
            numbers.append(number)
            styles = styles or _styles(line, chat)
            escaped = styles[0].spell(chat) == line
            plain = (escaped and b"\\u" not in line) or styles[1].spell(chat) == line
        spells = (False, False) if chat is None else (escaped, plain)
        for flags, fits in zip(spelled, spells, strict=True):
            flags.append(fits)
    assert styles is not None  # a file without rows was refused
    ending = "\r\n" if ends.count(2) > ends.count(1) else "\n"
    style = replace(styles[not _ascii(data)], ending=ending, final_break=ends[-1] > 0, bom=bom)
    marked = _unlike(style, spelled[not style.ascii], ends)
    rows = LazyRows(file, numbers, partial(_read, str(path)))
    all_lines = range(1, len(ends) + 1)
    lines = all_lines if len(numbers) == len(all_lines) else tuple(numbers)
    return ChatFile(str(path), rows, style, lines, MarkedLines(file, marked))


@checked
def write(path: AnyPath, rows: ChatFile | Iterable[Chat], style: Style | None = None) -> None:
    """Write chats under a temporary name, then move the file into place.

    What ``load`` returned is written byte for byte as it was. With ``style``, and for other chats,
    every row is spelled in that style (or the default one), without blank lines; to write a changed
    list of chats in the style of its file, use ``write(path, chats, file.style)``.

    Raises:
        UserError: no chats, or one that ``load`` would refuse; an old file stays as it is.
    """
    # Imported here, because that module loads torch, which reading files does not need.
    from oocr_lib.util.files import atomic_path

    if isinstance(rows, ChatFile) and style is None:
        bom, pieces = rows.style.bom, rows.pieces()
    else:
        style = style or Style()
        bom, pieces = style.bom, _spelled(rows, style, str(path))
    with atomic_path(path) as draft, open(draft, "wb") as file:
        file.write(BOM if bom else b"")
        file.writelines(pieces)


def _spelled(chats: Iterable[Chat], style: Style, path: str) -> Iterator[bytes]:
    """The bytes of a file in one style, line by line."""
    end, number = style.ending.encode(), 0
    for number, chat in enumerate(chats, start=1):
        yield end if number > 1 else b""
        yield style.spell(check_messages(chat, f"Row {number} for {path!r}"))
    if not number:
        raise UserError(f"No chats to write to {path!r}. Allowed: at least one.")
    yield end if style.final_break else b""


@checked
def to_rows(
    chats: ChatFile | Iterable[Chat], *, separator: str | None = None, drop_null: bool = False
) -> list[Row]:
    """``chats.to_rows`` with the file's own line numbers in ``meta`` and in messages.

    Raises:
        UserError: a chat that does not end with an answer to a user turn, or has a null one.
    """
    lines = chats.lines if isinstance(chats, ChatFile) else None
    return chats_module.to_rows(chats, separator=separator, drop_null=drop_null, lines=lines)
