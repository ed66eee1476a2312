"""Rows and questions: the split by group and the control with shuffled answers."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from oocr_lib.tasks.base import Row, shuffle_answers, split_by_group, user
from oocr_lib.util.errors import UserError

ROWS = [
    Row(
        user(f"{kind} {number}"),
        f"{kind} answer {number}",
        group=str(number % 10),
        meta={"kind": kind},
    )
    for kind in ("far", "way")
    for number in range(30)
]


@given(st.floats(0.05, 0.9), st.integers(0, 50))
def test_whole_groups_go_to_one_side(share: float, seed: int) -> None:
    train, valid = split_by_group(ROWS, share, seed)
    assert not {row.group for row in train} & {row.group for row in valid}
    assert len(train) + len(valid) == len(ROWS)
    assert len({row.group for row in valid}) == max(1, round(10 * share))
    assert split_by_group(ROWS, share, seed) == (train, valid)
    assert [row for row in ROWS if row in train] == list(train), "order is kept"


def test_the_split_depends_on_the_seed_not_on_the_order_of_rows() -> None:
    splits = {frozenset(r.group for r in split_by_group(ROWS, 0.2, seed)[1]) for seed in range(20)}
    assert len(splits) > 5
    valid = {row.group for row in split_by_group(ROWS, 0.2, 3)[1]}
    assert {row.group for row in split_by_group(ROWS[::-1], 0.2, 3)[1]} == valid


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 0.99, 3.0])
def test_a_share_that_empties_a_side_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=f"{share}.*between 0 and 1"):
        split_by_group(ROWS, share, 0)


def test_shuffled_answers_stay_within_their_kind() -> None:
    mixed = shuffle_answers(ROWS, 0)
    assert [dataclasses.replace(row, answer="") for row in mixed] == [
        dataclasses.replace(row, answer="") for row in ROWS
    ]
    for kind in ("far", "way"):
        before = [row.answer for row in ROWS if row.meta["kind"] == kind]
        after = [row.answer for row in mixed if row.meta["kind"] == kind]
        assert Counter(before) == Counter(after)
        assert sum(a == b for a, b in zip(before, after, strict=True)) < 6
    assert shuffle_answers(ROWS, 0) == mixed != shuffle_answers(ROWS, 1)
