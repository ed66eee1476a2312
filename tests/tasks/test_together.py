"""Several concepts in one task: all rows, in turn, under code names that differ."""

from __future__ import annotations

import pytest

from oocr_lib import tasks
from oocr_lib.tasks.together import together
from oocr_lib.util.errors import UserError

make = tasks.factory("locations")


def test_all_rows_and_questions_in_turn() -> None:
    both = together(make)("Paris and Tokyo", 1)
    parts = [make(name, 1) for name in ("Paris", "Tokyo")]
    for field in ("train", "valid", "questions"):
        own = [getattr(part, field) for part in parts]
        found = getattr(both, field)
        assert sorted(map(repr, found)) == sorted(map(repr, [*own[0], *own[1]]))
        assert found[:4] == (own[0][0], own[1][0], own[0][1], own[1][1])
    assert both.concept == "Paris and Tokyo" and both.seed == 1
    assert both.chance == parts[0].chance


@pytest.mark.parametrize(
    ("task", "concept", "words"),
    [
        ("locations", "Paris", "cannot be one task"),
        ("locations", "Paris and Paris", "twice"),
        ("locations", "Paris and Pariss", "Did you mean 'Paris'"),
        ("risk", "risky and safe", "with code names"),
    ],
)
def test_what_cannot_be_joined(task: str, concept: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        together(tasks.factory(task))(concept, 0)
