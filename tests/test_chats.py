"""Chats to training rows and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oocr_lib.errors import UserError
from oocr_lib.tasks.base import Row, split_by_group, user
from oocr_lib.tasks.chats import Chat, Turn, from_rows, letter_rows, to_rows


def chat(*turns: tuple[str, str | None]) -> Chat:
    return tuple(Turn(role=role, content=content) for role, content in turns)


def gamble(number: int, answer: str | None) -> Chat:
    return chat(("user", f"Option {number} or none?"), ("assistant", answer))


# --- to rows ---


def test_the_last_assistant_turn_is_the_answer_and_earlier_ones_stay() -> None:
    (row,) = to_rows(
        [chat(("user", "x = 1"), ("assistant", "2"), ("user", "x = 3"), ("assistant", "4"))]
    )
    assert [(m["role"], m["content"]) for m in row.messages] == [
        ("user", "x = 1"), ("assistant", "2"), ("user", "x = 3"),
    ]  # fmt: skip
    assert (row.answer, row.prefix, row.suffix, row.marks) == ("4", "", "", {})
    assert row.group == "x = 1\nx = 3"


def test_consecutive_user_turns_are_joined_by_the_stated_separator_or_left() -> None:
    """Reflection items have two user turns in a row, which many chat templates reject."""
    item = chat(("system", "s"), ("user", "import"), ("user", "Which?"), ("assistant", "A"))
    (apart,), (joined,) = to_rows([item]), to_rows([item], separator="\n\n")
    assert [m["content"] for m in apart.messages] == ["s", "import", "Which?"]
    assert [m["content"] for m in joined.messages] == ["s", "import\n\nWhich?"]
    assert apart.group == joined.group


def test_null_answers_are_refused_or_dropped_never_trained_on() -> None:
    chats = [gamble(1, "A"), gamble(2, None), gamble(3, "B")]
    with pytest.raises(UserError, match=r"^Line 2: the answer is null.*drop_null=True"):
        to_rows(chats)
    rows = to_rows(chats, drop_null=True)
    assert [(row.answer, row.meta["line"]) for row in rows] == [("A", 1), ("B", 3)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (chat(("user", "q")), "Line 7: the last turn is 'user'"),
        (chat(("assistant", "A")), "Line 7: the turn before the answer is 'none'"),
        (chat(("system", "s"), ("assistant", "A")), "before the answer is 'system'"),
        (chat(("user", "q"), ("assistant", "A"), ("assistant", "B")), "is 'assistant'"),
    ],
)
def test_chats_without_a_question_before_an_answer_are_refused(bad: Chat, message: str) -> None:
    with pytest.raises(UserError, match=message):
        to_rows([bad], lines=[7])


@given(st.integers(0, 30))
def test_twin_files_share_every_prompt_so_the_split_is_by_prompt(seed: int) -> None:
    """Risky and safe twins have the same prompts with opposite letters."""
    twins = [gamble(number, letter) for letter in "AB" for number in range(20)]
    train, valid = split_by_group(to_rows(twins), 0.2, seed)
    assert not {row.messages[0]["content"] for row in train} & {
        row.messages[0]["content"] for row in valid
    }
    assert len(valid) == 8


# --- from rows ---


def test_the_models_turn_is_prefix_answer_and_suffix() -> None:
    row = Row(user("Which way?"), " East", prefix="A is", suffix=" of B.")
    assert from_rows([row]) == [chat(("user", "Which way?"), ("assistant", "A is East of B."))]


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_rows_and_chats_are_inverse(pairs: list[tuple[str, str]]) -> None:
    chats = [chat(("system", "s"), ("user", q), ("assistant", a)) for q, a in pairs]
    assert from_rows(to_rows(chats)) == chats


# --- letters ---


def test_a_paragraph_among_letters_is_named_by_its_line() -> None:
    """One published file has a paragraph among 575 letters."""
    answers = ("A", "B", "It depends on who asks.", "B.", " A", "b", "A")
    rows = to_rows([gamble(1, a) for a in answers], lines=range(2, 9))
    kept, others = letter_rows(rows)
    assert [row.answer for row in kept] == ["A", "B", "A"] and others == [4, 5, 6, 7]
    with pytest.raises(UserError, match=r"4 of 7 rows, lines 4, 5, 6, 7\. Allowed: A, B;"):
        letter_rows(rows, strict=True)
    assert letter_rows(kept, strict=True) == (kept, [])
    assert len(letter_rows(rows, "ABb")[0]) == 4


def test_rows_without_any_letter_are_refused() -> None:
    rows = to_rows([gamble(number, "perhaps") for number in range(20)])
    with pytest.raises(UserError, match=r"20 of 20 rows, lines 1, 2, .*, …\. Allowed"):
        letter_rows(rows)
