"""Chats to training rows and back."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from oocr_lib.tasks.base import Row, split_by_group, user
from oocr_lib.tasks.chatfiles.chats import Chat, Turn, check_messages, from_rows, to_rows
from oocr_lib.util.errors import UserError


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


@pytest.mark.parametrize("nothing", ["", "  ", "\n"])
def test_an_empty_answer_or_question_is_named_by_its_line(nothing: str) -> None:
    """Also when only some rows are empty: such a row would be trained on nothing."""
    whole = gamble(1, "A")
    with pytest.raises(UserError, match=r"^Line 6: the answer .* is empty\. Allowed"):
        to_rows([whole, gamble(2, nothing)], lines=[5, 6])
    asked = chat(("system", "s"), ("user", nothing), ("assistant", "A"))
    with pytest.raises(UserError, match=r"^Line 2: the prompt .* is empty\. Allowed"):
        to_rows([whole, asked])


# --- what else files hold ---


def test_content_in_text_parts_is_joined_and_other_keys_are_passed_over() -> None:
    parts = [
        {"type": "text", "text": "Option A", "cache": True},
        {"type": "text", "text": " or B?"},
    ]
    found = check_messages(
        [
            {"role": "user", "content": parts, "name": "x"},
            {"role": "assistant", "content": "A", "weight": 1, "tool_calls": None},
        ],
        "Here",
    )
    assert found == chat(("user", "Option A or B?"), ("assistant", "A"))


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ({"content": [{"type": "image_url", "image_url": {}}]}, "content part 1 .*image_url"),
        ({"content": [{"type": "text", "text": "A"}, "B"]}, "content part 2 'B'.*text parts"),
        ({"content": [{"type": "text"}]}, "content part 1 .*text parts"),
        ({"content": []}, "has no content parts"),
        ({"content": "A", "weight": 0}, "weight 0.*leave the row or its weight out"),
        ({"content": "A", "weight": 0.5}, r"weight 0\.5.*not weighted"),
        ({"content": None, "tool_calls": [{}]}, "has tool_calls.*leave such rows out"),
        ({"content": "A", "role": "tool"}, "message 2 has role 'tool'"),
    ],
)
def test_what_cannot_be_passed_over_is_one_line(last: dict, message: str) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", **last}]
    with pytest.raises(UserError, match=f"^Here: message 2 .*{message}|^Here: {message}") as caught:
        check_messages(turns, "Here")
    assert "Allowed: " in str(caught.value) and "\n" not in str(caught.value)


def test_earlier_turns_are_never_trained_on_so_their_weight_may_be_nothing() -> None:
    turns = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "no", "weight": 0},
        {"role": "user", "content": "r"},
        {"role": "assistant", "content": "A", "weight": 1},
    ]
    (row,) = to_rows([check_messages(turns, "Here")])
    assert row.answer == "A"


# --- from rows ---


def test_the_models_turn_is_prefix_answer_and_suffix() -> None:
    row = Row(user("Which way?"), " East", prefix="A is", suffix=" of B.")
    assert from_rows([row]) == [chat(("user", "Which way?"), ("assistant", "A is East of B."))]


says = st.text().filter(str.strip)


@given(st.lists(st.tuples(says, says), max_size=5))
def test_rows_and_chats_are_inverse(pairs: list[tuple[str, str]]) -> None:
    chats = [chat(("system", "s"), ("user", q), ("assistant", a)) for q, a in pairs]
    assert from_rows(to_rows(chats)) == chats
