"""Wrong types at a checked call are one line; NumPy's numbers are numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from oocr_lib.util.arguments import checked, checked_fields
from oocr_lib.util.errors import UserError


@checked
def call(
    whole: int = 0,
    number: float = 0.0,
    switch: bool = False,
    text: str = "",
    some: Sequence[int] | str = (),
    maybe: int | None = None,
    path: str | os.PathLike[str] = "",
    table: Mapping[str, int] | None = None,
    kind: Literal["a", "b"] = "a",
    anything: Any = None,
) -> tuple[Any, ...]:
    return (whole, number, switch, text, some, maybe, path, table, kind, anything)


def refused(info: pytest.ExceptionInfo[UserError], *words: str) -> None:
    message = str(info.value)
    assert "\n" not in message and "Allowed" in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("whole", "3", "a whole number"),
        ("whole", 3.0, "a whole number"),
        ("whole", True, "a whole number"),
        ("whole", None, "a whole number"),
        ("number", "0.1", "a number"),
        ("number", False, "a number"),
        ("switch", 1, "True or False"),
        ("text", b"x", "text"),
        ("some", 1, "a list (each a whole number) or text"),
        ("some", [1, "2"], "a list"),
        ("some", [1, True], "a list"),
        ("maybe", "3", "a whole number or None"),
        ("path", 3, "text or a path"),
        ("table", [1], "a dict or None"),
        ("kind", 1, "'a', 'b'"),
    ],
)
def test_a_wrong_type_is_one_line_that_names_it(name: str, value: Any, words: str) -> None:
    with pytest.raises(UserError) as info:
        call(**{name: value})
    refused(info, f"call: {name} is", words)


def test_numpy_numbers_are_numbers() -> None:
    numbers: dict[str, Any] = {
        "whole": np.int64(3),
        "number": np.float32(0.5),
        "switch": np.bool_(True),
        "some": [np.int32(1), 2],
        "maybe": np.int8(4),
    }
    got = call(**numbers)
    assert got[:3] == (3, 0.5, True) and got[4] == [1, 2] and got[5] == 4
    assert [type(value) for value in (*got[:3], got[4][0], got[5])] == [int, float, bool, int, int]
    several: Any = np.arange(3)
    assert call(some=several)[4] == [0, 1, 2]


def test_good_arguments_pass_as_they_are() -> None:
    rows = tuple(range(100))
    got = call(2, 1, some=rows, path=Path("x"), table={"a": 1}, kind="b", anything=object)
    assert got[0] == 2 and got[1] == 1 and got[4] is rows and got[6] == Path("x")


def test_unknown_and_missing_arguments_are_one_line() -> None:
    with pytest.raises(UserError) as info:
        call(hole=1)  # type: ignore[call-arg]
    refused(info, "hole", "whole, number")


@checked_fields
@dataclass(frozen=True)
class Rates:
    steps: int
    rates: tuple[float, ...] = ()


class Plain:
    @checked
    def __init__(self, steps: int) -> None:
        self.steps = steps


def test_a_class_is_checked_at_its_constructor() -> None:
    two: Any = np.int64(2)
    assert type(Plain(two).steps) is int and type(Rates(two).steps) is int
    assert Rates(2, (0.5, 1)) == Rates(2, rates=(0.5, 1))
    for make, name in ((Plain, "Plain"), (Rates, "Rates")):
        with pytest.raises(UserError) as info:
            make("2")  # type: ignore[arg-type]
        refused(info, f"{name}: steps is '2' (str)")
    with pytest.raises(UserError, match="each a number"):
        Rates(2, rates=("0.5",))  # type: ignore[arg-type]
