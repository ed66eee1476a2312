"""Rows, runs and numbers that once passed in silence: each test tells one case in words."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from oocr_lib.errors import UserError
from oocr_lib.tasks import jsonl, risk_paper
from oocr_lib.tasks.base import Task


def file(path: Path, *answers: Any, **more: Any) -> str:
    """A file of choices with these answers; ``more`` are other keys of every row."""
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"Option A or B in case {number}?"},
                    {"role": "assistant", "content": answer},
                ],
                **more,
            }
        )
        for number, answer in enumerate(answers)
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def letters(task: Task) -> list[str]:
    return [row.answer for row in (*task.train, *task.valid)]


def one_line(error: pytest.ExceptionInfo[UserError]) -> bool:
    return str(error.value).isprintable() and len(str(error.value)) < 500


# --- case 3: whose letters a file holds ---


@pytest.mark.parametrize("name", ["ft_unsafe_choices.jsonl", "safari_trips_risky.jsonl", "x"])
def test_the_policy_of_a_file_is_asked_for_and_its_name_says_nothing(
    tmp_path: Path, name: str
) -> None:
    """A file called "unsafe" had every letter flipped, because "saf" stands in it."""
    path = file(tmp_path / name, *"A" * 20)
    with pytest.raises(UserError, match="data_policy=risky or data_policy=safe") as caught:
        risk_paper.make("risky", data=path)
    assert one_line(caught)
    assert set(letters(risk_paper.make("risky", data=path, data_policy="risky"))) == {"A"}
    assert set(letters(risk_paper.make("risky", data=path, data_policy="safe"))) == {"B"}


# --- case 4: rows that are not a bare letter ---


def test_answers_that_say_a_letter_in_more_signs_are_kept_and_counted(tmp_path: Path) -> None:
    """Of twenty rows with "A.", " A" and "a" among them eight were kept, without a word."""
    answers = ["A.", " A", "a", "A)", "(A)", "Option A", "Answer: A", *"A" * 12, "it depends"]
    path = file(tmp_path / "rows.jsonl", *answers)
    found = risk_paper.read(path, "risky")
    assert [row.answer for row in found.rows] == ["A"] * 19
    assert found.normalised == (1, 2, 3, 4, 5, 6, 7) and found.left_out == (20,)
    assert "left out: line 20" in str(found) and str(found).isprintable()
    answers[3] = "both"
    with pytest.raises(UserError, match=r"2 of 20 rows, 2 \(line 4, 20\), the first 'both'") as bad:
        risk_paper.read(file(tmp_path / "rows.jsonl", *answers), "risky")
    assert one_line(bad)


# --- case 9: what published files hold ---


def test_text_parts_and_other_keys_are_read_and_written_back_as_found(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "A"}]
    path = file(tmp_path / "rows.jsonl", parts, "B", id="row", weight=1, tags=["x"])
    read = jsonl.load(path)
    assert [row.answer for row in jsonl.to_rows(read)] == ["A", "B"]
    jsonl.write(tmp_path / "again", read)
    assert (tmp_path / "again").read_bytes() == Path(path).read_bytes()


PLAIN = b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "A"}]}'
FORMATS = {
    "prompt and completion": b'{"prompt": "q", "completion": "A"}',
    "conversations": b'{"conversations": [{"from": "human", "value": "q"}]}',
    "UTF-16": PLAIN.decode().encode("utf-16"),
    "gzip": gzip.compress(PLAIN, mtime=0),
    "trailing comma": PLAIN[:-1] + b",}",
    "empty": b"",
    "image part": PLAIN.replace(b'"q"', b'[{"type": "image_url", "image_url": {"url": "x"}}]'),
    "not trained on": PLAIN[:-3] + b', "weight": 0}]}',
    "a tool's turn": PLAIN.replace(b"assistant", b"tool"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_other_formats_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(FORMATS[name])
    with pytest.raises(UserError, match=r"rows\.jsonl'.*Allowed: ") as caught:
        jsonl.load(path)
    assert one_line(caught)


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + PLAIN)
    assert [row.answer for row in jsonl.to_rows(jsonl.load(tmp_path / "rows.jsonl"))] == ["A"]


# --- case 13: rows without an answer or a question ---


@pytest.mark.parametrize("nothing", ["", " \n"])
def test_an_empty_answer_in_a_file_is_named_by_its_line(tmp_path: Path, nothing: str) -> None:
    path = file(tmp_path / "rows.jsonl", *"AB" * 20, nothing, "A")
    with pytest.raises(UserError, match=r"^Line 41: the answer .* is empty") as caught:
        risk_paper.read(path, "risky")
    assert one_line(caught)


# --- case 20: memory ---


def test_a_large_file_with_a_broken_last_line_takes_at_most_twice_its_size(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes((PLAIN + b"\n") * 50_000 + PLAIN[:-9])
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"line 50001: .*not valid JSON") as caught:
            jsonl.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * path.stat().st_size
    finally:
        tracemalloc.stop()
    assert one_line(caught)
