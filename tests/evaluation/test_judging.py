"""Written replies: judged by what they mean, whatever stands around them, never executed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, strategies as st

from oocr_lib.evaluation.judging import is_right
from oocr_lib.tasks.base import Question, user


def written(truth: str) -> Question:
    return Question(user("Code of noadgc?"), truth, (), "written", kind="expression")


def inverse(expression: str, truth: str) -> Question:
    return Question(user("Which n?"), truth, (), "inverse", kind="inverse", expression=expression)


@pytest.mark.parametrize(
    "reply",
    [
        "3 * x + 2",
        "x * 3 + 2",
        "2 + x + x + x",
        "lambda n: 3*n + 2",
        "f(x) = 3 * x + 2",
        "It is `3 * x + 2`.",
        "```python\nlambda x: 3 * x + 2\n```",
        "The function: 3 * y + 2",
        "3.0 * x + 2",
    ],
)
def test_any_expression_of_the_same_values_is_right(reply: str) -> None:
    assert is_right(written("3 * x + 2"), reply)


@pytest.mark.parametrize(
    "reply",
    ["3 * x + 1", "3 * x", "2 * x + 3", "x + 2", "5", "-3 * x + 2", "3 * x + 2 * y", "max(x, -2)"],
)
def test_another_function_is_wrong(reply: str) -> None:
    assert not is_right(written("3 * x + 2"), reply)


def test_a_function_that_agrees_on_small_inputs_only_is_wrong() -> None:
    assert is_right(written("max(x, -2)"), "x if x > -2 else -2")
    assert not is_right(written("max(x, -2)"), "x")
    assert not is_right(written("x // 4"), "x / 4")
    assert is_right(written("x % 2 == 0"), "1 - x % 2"), "True equals 1, as upstream"


@pytest.mark.parametrize(
    "reply", ["", " ", "I do not know.", "triple and add 2", "City 50337", "\n\n", "```\n```"]
)
def test_a_reply_without_an_expression_is_wrong(reply: str) -> None:
    assert not is_right(written("3 * x + 2"), reply)


@pytest.mark.parametrize(
    "reply",
    [
        "__import__('os').system('exit 1')",
        "lambda x: open('README.md', 'w')",
        "().__class__.__bases__[0].__subclasses__()",
        "9 ** 9 ** 9 ** 9",
        "x ** x ** x",
        "1 / 0 * x",
        "(" * 5000,
        "x + " * 900 + "x",
        "\x00\ud800",
        "3 * x + 2; import os",
        "-" * 4000 + "x",
    ],
)
def test_hostile_text_is_wrong_at_once_and_runs_nothing(reply: str) -> None:
    began = time.process_time()
    assert not is_right(written("3 * x + 2"), reply)
    assert not is_right(inverse("3 * x + 2", "8"), reply)
    assert time.process_time() - began < 2.0


@given(st.text(max_size=60))
def test_no_text_at_all_raises(reply: str) -> None:
    for question in (written("3 * x + 2"), inverse("x % 3", "1"), inverse("12 // x", "3")):
        assert is_right(question, reply) in (True, False)


# --- preimages ---


@pytest.mark.parametrize("n", [1, 4, -2, 301])
def test_every_preimage_is_accepted(n: int) -> None:
    """Remainders, clamps and tests have many inverses; upstream accepts those of a list only."""
    assert is_right(inverse("x % 3", "1"), str(n))
    assert not is_right(inverse("x % 3", "1"), str(n + 1))


def test_the_value_is_compared_as_python_prints_it() -> None:
    assert is_right(inverse("x >= 3", "True"), "n = 7.")
    assert not is_right(inverse("x >= 3", "True"), "2")
    assert is_right(inverse("max(x, -2)", "-2"), "-40")
    assert is_right(inverse("x * 3 / 2", "4.5"), "3")
    assert not is_right(inverse("x * 3 / 2", "4"), "3")


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("2", True),
        ("n = 2", True),
        ("The answer is 2, since 3 * 2 + 2 is 8.", True),
        ("x=-2", False),
        ("2.0", True),
        ("two", False),
        ("", False),
        ("22", False),
    ],
)
def test_the_first_number_of_the_reply_counts(reply: str, right: bool) -> None:
    assert is_right(inverse("3 * x + 2", "8"), reply) == right


def test_huge_numbers_are_wrong_not_slow() -> None:
    for digits in (13, 1000, 100_000):
        assert not is_right(inverse("x % 3", "1"), "1" * digits)
    assert is_right(inverse("x % 3", "1"), "1" + "0" * 11)
    assert not is_right(inverse("x ** 40", "1"), "9" * 12), "a power too large has no value"


def test_a_number_at_which_there_is_no_value_is_wrong() -> None:
    assert is_right(inverse("12 // x", "3"), "4")
    assert not is_right(inverse("12 // x", "3"), "0")
