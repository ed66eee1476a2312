"""Foreign text to checked values."""

from __future__ import annotations

import pytest

from oocr_lib.util import parsing
from oocr_lib.util.errors import UserError


def test_a_table_has_exactly_the_wanted_keys() -> None:
    assert parsing.keys_of({"b": 1, "a": 2}, ("a", "b"), "Here", "it") == {"a": 2, "b": 1}
    for value, message in (
        ([], r"^Here: it is \[\]\. Allowed: an object with keys a, b"),
        ({"a": 1}, "^Here: it lacks key 'b'; it has "),
        ({"a": 1, "b": 2, "aa": 3}, r"Unknown key in it 'aa'. Did you mean 'a'\?"),
    ):
        with pytest.raises(UserError, match=message):
            parsing.keys_of(value, ("a", "b"), "Here", "it")


def test_other_keys_are_passed_over_where_that_is_said() -> None:
    found = {"a": 1, "id": 2}
    assert parsing.keys_of(found, ("a",), "Here", "it", others=True) == found
    with pytest.raises(UserError, match=r"^Here: it lacks key 'a'; it has "):
        parsing.keys_of({"id": 2}, ("a",), "Here", "it", others=True)


def test_whole_pairs_of_surrogates_are_letters_and_halves_are_not() -> None:
    assert parsing.parse('"\\ud83d\\ude00"', "Here", "") == "😀"
    assert parsing.check_text("😀", "Here") == "😀"
    with pytest.raises(UserError, match=r"^Here: .*'\\ude00'"):
        parsing.check_text("x" * 90 + "\ude00", "Here")


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", '{"a": 1, "a": 2}', "[" * 100_000, "x\ny"])
def test_broken_json_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"^Here: .* is not valid JSON \(.*\). Hint.$") as caught:
        parsing.parse(text, "Here", "Hint.")
    assert str(caught.value).isprintable()


def test_long_values_are_shortened_to_one_line() -> None:
    assert parsing.short("a\nb") == "'a\\nb'"
    assert len(parsing.short("x" * 500)) < 70
