"""Rows answered by one letter."""

from __future__ import annotations

import doctest

import pytest

from oocr_lib.tasks.base import Row, user
from oocr_lib.tasks.chatfiles import letters
from oocr_lib.tasks.chatfiles.letters import letter_of, letter_rows
from oocr_lib.util.errors import UserError


def rows(*answers: str, first: int = 1) -> list[Row]:
    return [
        Row(user(f"Option {n} or none?"), answer, meta={"line": n})
        for n, answer in enumerate(answers, start=first)
    ]


SAYING = """ A;a;A.;A);(A);(a).;Option A;option a.;Answer: A;A\n;**A**;The answer is A.;
my choice is option (A);'A';[A];Final answer: `A`;A"""


@pytest.mark.parametrize("said", SAYING.split(";"))
def test_an_answer_that_says_one_letter_and_nothing_else_is_that_letter(said: str) -> None:
    assert letter_of(said) == "A"


@pytest.mark.parametrize(
    "said", ";C;A or B;AB;A B;Not A;Option;answer;A) win 40;I would say A;А".split(";")
)
def test_anything_else_is_no_letter(said: str) -> None:
    """The last one is Cyrillic."""
    assert letter_of(said) is None


def test_letters_of_both_cases_are_told_apart_where_both_are_allowed() -> None:
    assert [letter_of(x, "ABb") for x in ("b.", "(B)", "a")] == ["b", "B", "A"]


def test_a_paragraph_among_letters_is_named_by_its_line() -> None:
    """One published file has a paragraph among 575 letters."""
    given = rows("A", "B", "It depends on who asks.", "B.", *"AB" * 20, first=2)
    found = letter_rows(given)
    assert [row.answer for row in found.rows] == ["A", "B", "B", *"AB" * 20]
    assert (found.normalised, found.left_out) == ((5,), (4,))
    assert str(found) == "43 rows answered by a letter; normalised: line 5; left out: line 4"
    assert found.rows[0] is given[0], "bare letters stay as they are"


def test_more_than_the_stated_share_is_not_left_out_in_silence() -> None:
    given = rows(*"A" * 18, "perhaps", "both")
    with pytest.raises(
        UserError, match=r"2 of 20 rows, 2 \(line 19, 20\), the first 'perhaps'.*but 5% of"
    ) as caught:
        letter_rows(given)
    assert "\n" not in str(caught.value) and "strict" not in str(caught.value)
    assert letter_rows(given, most_lost=0.1).left_out == (19, 20)
    with pytest.raises(UserError, match="most_lost=5 is no share"):
        letter_rows(given, most_lost=5)


@pytest.mark.parametrize("most_lost", [0.05, 1.0])
def test_rows_without_any_letter_are_refused(most_lost: float) -> None:
    with pytest.raises(UserError, match=r"20 of 20 rows, 20 \(line 1, 2, .*, …\), .*\. Allowed"):
        letter_rows(rows(*["perhaps"] * 20), most_lost=most_lost)
    with pytest.raises(UserError, match="0 of 0 rows"):
        letter_rows([], most_lost=most_lost)


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(letters).failed == 0
