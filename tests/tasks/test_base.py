"""Rows and questions: the split by group and the control with shuffled answers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from oocr_lib import tasks
from oocr_lib.tasks.base import Row, random_answers, shuffle_answers, split_by_group, user
from oocr_lib.tasks.locations.attributes import HINTS
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


@pytest.mark.parametrize("control", [random_answers, shuffle_answers])
def test_a_control_that_would_keep_every_answer_is_refused(control: Callable[..., object]) -> None:
    same = [Row(user(str(k)), "French", meta={"kind": "language"}) for k in range(3)]
    with pytest.raises(UserError, match="kind 'language' all have the answer 'French'"):
        control([*ROWS, *same], 0)


def test_answers_of_other_concepts_are_drawn_alike() -> None:
    pool = ("French", "Thai", "Arabic", "English")
    same = [
        Row(user(str(k)), "French", meta={"kind": "language", "answers": pool}) for k in range(400)
    ]
    drawn = Counter(row.answer for row in random_answers(same, 0))
    assert set(drawn) == set(pool) and all(abs(n / 400 - 0.25) < 0.08 for n in drawn.values())


OPTIONS: dict[str, list[dict[str, list[str]]]] = {
    "locations": [{}, {"hints": list(HINTS)}] + [{"hints": [h]} for h in HINTS],
    "functions": [{}],
    "risk": [{}],
    "backdoor": [{}],
}
CASES = [(t, d, given) for t, every in OPTIONS.items() for d in tasks.DIALECTS for given in every]


@pytest.mark.parametrize(("task", "dialect", "given"), CASES, ids=str)
def test_random_answers_are_not_the_truth_in_any_task(
    task: str, dialect: str, given: dict[str, list[str]]
) -> None:
    concepts = {"locations": "Paris", "functions": "negate", "risk": "risky", "backdoor": "win"}
    rows = tasks.factory(task, dialect, **given)(concepts[task], 0).train
    kept: dict[str, list[bool]] = {}
    for seed in range(20):
        for own, drawn in zip(rows, random_answers(rows, seed), strict=True):
            kept.setdefault(str(own.meta.get("kind")), []).append(own.answer == drawn.answer)
    for kind, same in kept.items():
        assert sum(same) / len(same) <= 0.52, f"{kind}: mostly the truth, so no control"
