"""Upstream chat files: a written file is read and written again without changing a byte."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from oocr_lib.tasks.chatfiles import jsonl
from oocr_lib.tasks.chatfiles.chats import Turn
from oocr_lib.tasks.chatfiles.jsonl import Chat, Style
from oocr_lib.util.errors import UserError

STYLES = [
    Style(ascii, ending, final, separators, bom)
    for ascii, ending, final, separators, bom in product(
        (True, False), jsonl.ENDINGS, (True, False), jsonl.SEPARATORS, (True, False)
    )
]
#: Upstream's four: Locations and Parity, Functions and Coins, Risky / Safe, the paper's copies.
PUBLISHED = (
    Style(ascii=False),
    Style(),
    Style(ending="\r\n"),
    Style(final_break=False),
)


def chat(*turns: tuple[str, str | None]) -> Chat:
    return tuple(Turn(role=role, content=content) for role, content in turns)


CHATS = [
    chat(("user", "Take option 1’s coin or\r\nthe crêpe? One letter."), ("assistant", "B")),
    chat(("system", "Be exact."), ("user", 'print("é")'), ("assistant", "é")),
    chat(("user", "import a"), ("user", "Which?"), ("assistant", None)),
    chat(("user", "x"), ("assistant", "1"), ("user", "y"), ("assistant", "\u2028 2")),
]
texts = st.text(max_size=30)
turns = st.lists(st.tuples(st.sampled_from(["user", "assistant"]), texts), max_size=4)
heads = st.lists(st.tuples(st.just("system"), texts), max_size=1)
tails = st.sampled_from([("user", "é"), ("assistant", "B"), ("assistant", None)])
any_chats = st.builds(lambda a, b, c: chat(*a, *b, c), heads, turns, tails)


def line(*turns: tuple[str, str | None], end: str = "\n") -> bytes:
    content = {"messages": [{"role": role, "content": text} for role, text in turns]}
    return (json.dumps(content) + end).encode()


PLAIN = line(("user", "q"), ("assistant", "A"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


# --- round trip ---


@given(st.lists(any_chats, min_size=1, max_size=5), st.sampled_from(STYLES))
def test_any_chats_in_any_style_come_back_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, chats: list[Chat], style: Style
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    jsonl.write(folder / "a", chats, style)
    read = jsonl.load(folder / "a")
    assert list(read) == chats
    jsonl.write(folder / "b", read)
    assert (folder / "b").read_bytes() == (folder / "a").read_bytes()
    # The bytes are upstream's: what Python's own writer makes of every row.
    first = {"messages": [dict(turn) for turn in chats[0]]}
    text = json.dumps(first, ensure_ascii=style.ascii, separators=style.separators)
    start = b"\xef\xbb\xbf" if style.bom else b""
    assert (folder / "a").read_bytes().startswith(start + text.encode())


@pytest.mark.parametrize("style", STYLES)
def test_the_style_is_found_and_serves_for_other_rows(path: Path, style: Style) -> None:
    jsonl.write(path, CHATS, style)
    read = jsonl.load(path)
    assert (read.style, dict(read.kept)) == (style, {})
    again = path.with_name("again.jsonl")
    jsonl.write(again, [*read][:2], read.style)
    data = again.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf") == style.bom
    assert data.count(b"\r\n") == (1 + style.final_break) * (style.ending == "\r\n")
    assert data.count(b"\n") == 1 + style.final_break
    assert data.isascii() == (style.ascii and not style.bom)


@pytest.mark.parametrize("style", PUBLISHED)
def test_copies_differ_in_bytes_not_in_rows(path: Path, style: Style) -> None:
    """The paper's copies of the gamble files have the same rows with other line breaks."""
    jsonl.write(path, CHATS, style)
    assert list(jsonl.load(path)) == CHATS
    datas = {b"".join(style.spell(c) + style.ending.encode() for c in CHATS) for style in PUBLISHED}
    assert len(datas) == 3


def test_crlf_is_no_part_of_an_answer_and_a_raw_line_separator_no_line_break(path: Path) -> None:
    """The published gamble files end every line, the last one too, in CRLF."""
    jsonl.write(path, CHATS, Style(ascii=False, ending="\r\n"))
    assert path.read_bytes().endswith(b"}\r\n")
    assert [c[-1]["content"] for c in jsonl.load(path)] == ["B", "é", None, "\u2028 2"]


ODD_FILES = {
    "mixed line breaks": PLAIN + PLAIN[:-1] + b"\r\n" + PLAIN,
    "blank lines": b"\n" + PLAIN + b" \r\n\n" + PLAIN + b"\n\t",
    "blank first line after the mark": b"\xef\xbb\xbf\n" + PLAIN,
    "escaped and raw": line(("user", "é"), ("assistant", "A")) + PLAIN.replace(b"q", "é".encode()),
    "capital digits in escapes": PLAIN.replace(b"q", b"\\u00E9"),
    "escaped slash": PLAIN.replace(b"q", b"\\/"),
    "content before role": b'{"messages": [{"content": "q", "role": "user"}]}\n',
    "odd spaces": PLAIN.replace(b": ", b" :  "),
    "two carriage returns": PLAIN[:-1] + b"\r\r\n",
    "other keys": PLAIN + PLAIN[:-2] + b', "id": 7}\n',
    "other keys in every row": (PLAIN[:-2] + b', "id": 7, "weight": 1}\n') * 3,
    "text parts": PLAIN.replace(b'"q"', b'[{"type": "text", "text": "q"}]') + PLAIN,
    "broken first line break": PLAIN[:-1] + b"\r\n" + PLAIN * 2,
}


@pytest.mark.parametrize("name", ODD_FILES)
def test_what_no_style_says_is_kept_line_by_line(path: Path, name: str) -> None:
    path.write_bytes(ODD_FILES[name])
    read = jsonl.load(path)
    assert read.kept, "else this file tests nothing"
    jsonl.write(path.with_name("b"), read)
    assert path.with_name("b").read_bytes() == ODD_FILES[name]
    # In a style of one's own the oddities go.
    jsonl.write(path.with_name("c"), read, Style())
    assert path.with_name("c").read_bytes() == b"".join(Style().spell(c) + b"\n" for c in read)


def test_blank_lines_are_kept_and_rows_keep_their_line_numbers(path: Path) -> None:
    path.write_bytes(b"\n" + PLAIN + b"  \r\n" + line(("user", "r"), ("assistant", None)))
    read = jsonl.load(path)
    assert (len(read), read.lines, list(read.kept)) == (2, (2, 4), [1, 3])
    (row,) = jsonl.to_rows(read, drop_null=True)
    assert row.meta["line"] == 2
    with pytest.raises(UserError, match=r"^Line 4: the answer is null"):
        jsonl.to_rows(read)


def test_a_changed_file_is_not_written_with_old_lines(path: Path) -> None:
    from dataclasses import replace

    path.write_bytes(PLAIN.replace(b"q", b"\\/"))
    read = jsonl.load(path)
    other = chat(("user", "new"), ("assistant", "B"))
    jsonl.write(path, replace(read, rows=(other,)))
    assert list(jsonl.load(path)) == [other]
    with pytest.raises(UserError, match=r"2 chats for 1 lines.*pass them as a list"):
        replace(read, rows=(other, other))


def test_rows_of_a_task_make_a_file_that_gives_the_same_rows(path: Path) -> None:
    jsonl.write(path, [c for c in CHATS if c[-1]["content"] is not None])
    rows = jsonl.to_rows(jsonl.load(path))
    jsonl.write(path.with_name("b"), jsonl.from_rows(rows))
    assert path.with_name("b").read_bytes() == path.read_bytes()


# --- errors ---

BAD_LINES = {
    b'{"messages": [': "not valid JSON",
    b'[{"func_outs": {}}]': "the row is .*load_dataset_json|the row is .*keys messages",
    b'"text"': "the row is 'text'",
    b'{"message": []}': "lacks key 'messages'",
    b'{"prompt": "q", "completion": "A"}': r"the row lacks key 'messages'; it has .*'prompt'",
    b'{"conversations": []}': "the row lacks key 'messages'; it has .*'conversations'",
    b'{"messages": [{"role": "user", "content": "q"},]}': "not valid JSON",
    PLAIN.strip()[:-1] + b', "weight": 0}': "the row has weight 0",
    b'{"messages": []}': r"messages is \[\]",
    b'{"messages": {"role": "user"}}': "messages is .*a list of turns",
    b'{"messages": ["hi"]}': "message 1 is 'hi'",
    b'{"messages": [{"role": "user"}]}': "message 1 lacks key 'content'",
    b'{"messages": [{"content": "q"}]}': "message 1 lacks key 'role'",
    PLAIN.strip()[:-3] + b', "weight": 0}]}': r"message 2 \(assistant\) has weight 0",
    b'{"messages": [{"role": "tool", "content": "q"}]}': "role 'tool'.*user or assistant",
    b'{"messages": [{"role": ["user"], "content": "q"}]}': "role .*user or assistant",
    b'{"messages": [{"role": "user", "content": 3}]}': r"\(user\) has content 3",
    b'{"messages": [{"role": "user", "content": NaN}]}': "content nan",
    b'{"messages": [{"role": "user", "content": null}]}': "content None.*null only in a last",
    line(("assistant", None), ("user", "q")): "message 1 .*content None",
    line(("user", "q"), ("system", "s")): "message 2 has role 'system'.*first message only",
    b'{"messages": [{"role": "user", "content": "\\ud800 x"}]}': "half of a surrogate pair",
    b'{"messages": [{"role": "user", "content": "\xff"}]}': "byte 44 .0xff. is not UTF-8",
    b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}': "is not UTF-8",
    b'{"messages": [], "messages": []}': "a key comes twice",
    b"[" * 200_000: "not valid JSON",
    b'{"messages": ' + b"9" * 5000 + b"}": "not valid JSON",
    PLAIN.strip() + PLAIN.strip(): "Extra data",
}


@pytest.mark.parametrize("bad", BAD_LINES)
def test_a_bad_line_is_named_in_one_line(path: Path, bad: bytes) -> None:
    path.write_bytes(PLAIN + b"\n" + bad.strip() + b"\n" + PLAIN)
    with pytest.raises(UserError, match=BAD_LINES[bad]) as caught:
        jsonl.load(path)
    text = str(caught.value)
    assert "rows.jsonl', line 3" in text and "Allowed: " in text
    assert text.isprintable() and len(text) < 500


@pytest.mark.parametrize("data", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"rows\.jsonl' has no rows"):
        jsonl.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for missing in (tmp_path / "no.jsonl", tmp_path):
        with pytest.raises(UserError, match="No file"):
            jsonl.load(missing)


def test_a_file_of_another_encoding_is_refused(path: Path) -> None:
    path.write_bytes(PLAIN.decode().encode("utf-16"))
    with pytest.raises(UserError, match=r"line 1: byte 1 \(0xff\) is not UTF-8.*convert"):
        jsonl.load(path)


def test_a_failed_write_leaves_the_old_file(path: Path) -> None:
    jsonl.write(path, CHATS)
    before = path.read_bytes()
    for bad, message in (
        ([], "No chats"),
        ([CHATS[0], chat(("user", "\ud800"))], "Row 2 .*surrogate"),
        ([CHATS[0], chat(("tool", "x"))], "Row 2 .*role 'tool'"),
        ([()], "Row 1 .*a list of turns"),
    ):
        with pytest.raises(UserError, match=message):
            jsonl.write(path, bad)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("wrong", [{"ending": "\r"}, {"separators": (";", ":")}])
def test_a_style_that_is_no_json_is_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match="Allowed"):
        Style(**wrong)


# --- cost ---


@pytest.mark.long
def test_a_file_takes_little_more_memory_than_it_has_bytes(path: Path) -> None:
    """Chats as Python objects take six times as much."""
    path.write_bytes(line(("user", "Take the sure 20 or the coin?"), ("assistant", "B")) * 20_000)
    size = path.stat().st_size
    tracemalloc.start()
    jsonl.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * size
    path.write_bytes(path.read_bytes() + b"broken")
    tracemalloc.start()
    with pytest.raises(UserError, match=r"line 20001: 'broken' is not valid JSON"):
        jsonl.load(path)
    assert tracemalloc.get_traced_memory()[1] < 2 * size
    tracemalloc.stop()


def test_rows_of_a_file_are_a_list_to_the_reader(path: Path) -> None:
    jsonl.write(path, CHATS)
    rows = jsonl.load(path).rows
    assert (rows[0], rows[-1], list(rows[1:3])) == (CHATS[0], CHATS[-1], CHATS[1:3])
    assert rows == CHATS and rows != CHATS[1:] and CHATS[1] in rows
    with pytest.raises(IndexError):
        rows[len(CHATS)]


def test_reading_needs_no_torch() -> None:
    code = "import sys; import oocr_lib.tasks.chatfiles.jsonl; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
