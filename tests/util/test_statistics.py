"""Intervals: coverage, clusters, invariances, verdicts, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from oocr_lib.util.errors import UserError
from oocr_lib.util.statistics import Interval, bootstrap, verdict

numbers = st.floats(-100, 100, allow_nan=False)


@given(st.lists(numbers, min_size=1, max_size=12), st.integers(0, 5))
def test_interval_brackets_the_mean_and_stays_in_range(values: list[float], seed: int) -> None:
    got = bootstrap(values, resamples=200, seed=seed)
    assert got.n == len(values)
    assert got.value == pytest.approx(np.mean(values), abs=1e-9)
    assert min(values) - 1e-9 <= got.low <= got.value <= got.high <= max(values) + 1e-9


@given(st.lists(st.tuples(numbers, st.sampled_from("abc")), min_size=1, max_size=9), st.randoms())
def test_order_of_runs_has_no_influence(rows: list[tuple[float, str]], random) -> None:
    mixed = list(rows)
    random.shuffle(mixed)
    for grouped in (False, True):
        first, second = (
            bootstrap([v for v, _ in r], [g for _, g in r] if grouped else None, resamples=150)
            for r in (rows, mixed)
        )
        assert (first.low, first.high) == pytest.approx((second.low, second.high), abs=1e-9)


def test_same_seed_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(1).random(20)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values, seed=1) != bootstrap(values)


def test_coverage_is_near_the_level() -> None:
    rng = np.random.default_rng(0)
    hits = [0.0 in bootstrap(rng.normal(size=40), resamples=400) for _ in range(300)]
    assert 0.90 <= np.mean(hits) <= 0.98


def test_agrees_with_the_normal_interval_on_many_values() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.0, size=400)
    got = bootstrap(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert got.high - got.low == pytest.approx(2 * half, rel=0.05)


def test_a_wider_level_gives_a_wider_interval() -> None:
    values = np.random.default_rng(3).random(15)
    narrow, wide = bootstrap(values, level=0.8), bootstrap(values, level=0.99)
    assert wide.low < narrow.low and narrow.high < wide.high


def test_clusters_widen_the_interval_when_runs_of_a_concept_agree() -> None:
    groups = np.repeat(np.arange(8), 5)
    values = np.repeat(np.random.default_rng(0).random(8), 5)
    plain, cluster = bootstrap(values), bootstrap(values, groups)
    assert cluster.high - cluster.low > 1.6 * (plain.high - plain.low)
    assert cluster.value == plain.value


def test_groups_of_one_run_are_the_plain_bootstrap() -> None:
    values = np.random.default_rng(0).random(30)
    plain, cluster = bootstrap(values), bootstrap(values, range(30))
    assert (cluster.low, cluster.high) == pytest.approx((plain.low, plain.high), abs=0.01)


def test_unequal_groups_keep_padding_out() -> None:
    got = bootstrap([5.0] * 7, ["a"] * 6 + ["b"])
    assert got == Interval(5.0, 5.0, 5.0, 7)


def test_large_input_is_drawn_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = np.random.default_rng(0).random(50), np.repeat(range(10), 5)
    whole = bootstrap(values, groups, resamples=500)
    monkeypatch.setattr("oocr_lib.util.statistics._DRAWS_AT_ONCE", 1000)
    pieces = bootstrap(values, groups, resamples=500)
    assert (pieces.low, pieces.high) == pytest.approx((whole.low, whole.high), abs=0.05)


def test_booleans_and_one_run() -> None:
    assert bootstrap([True, True]) == Interval(1.0, 1.0, 1.0, 2)
    assert bootstrap([0.3]) == Interval(0.3, 0.3, 0.3, 1)
    assert str(Interval(0.944, 0.88, 0.99, 12)) == "0.94 [0.88, 0.99]"
    assert str(Interval(-0.001, -0.004, 0.0, 2)) == "0.00 [0.00, 0.00]"  # no sign before zero


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"values": []}, "shape"),
        ({"values": [1.0, float("nan")]}, "Value 1 of 2 is nan"),
        ({"values": [1.0], "groups": [1, 2]}, "2 group labels for 1 values"),
        ({"values": [1.0], "level": 95}, "Level 95"),
        ({"values": [1.0], "resamples": 3}, "3 resamples"),
    ],
)
def test_bad_input_is_one_clear_line(kwargs: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        bootstrap(**kwargs)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (">= 0.8", "holds"),
        ("> 0.8", "undecided"),
        (">= 0.9", "undecided"),
        (">= 0.96", "does not hold"),
        ("<= 0.95", "holds"),
        ("< 0.8", "does not hold"),
        ("value >= 0.9", "holds"),
        ("value>0.9", "does not hold"),
        ("contains 0.8", "holds"),
        ("contains .2", "does not hold"),
        ("excludes 0.2", "holds"),
        (">= -1e-3", "holds"),
    ],
)
def test_verdicts(rule: str, expected: str) -> None:
    interval = Interval(0.9, 0.8, 0.95, 12)
    assert verdict(interval, rule) == expected


@pytest.mark.parametrize("rule", ["", "good", "== 1", ">= high", "contains", ">= e", "> 1e999"])
def test_unreadable_rules_are_refused(rule: str) -> None:
    with pytest.raises(UserError, match="Cannot read the rule"):
        verdict(Interval(0.9, 0.8, 0.95, 12), rule)


@pytest.mark.parametrize(
    ("low", "high", "rule", "expected"),
    [
        (-0.05, 0.04, "within 0.1", "holds"),
        (-0.1, 0.1, "within 0.1", "holds"),
        (-0.05, 0.12, "within 0.1", "undecided"),
        (-0.3, 0.02, "within 0.1", "undecided"),
        (-0.3, 0.3, "within 0.1", "undecided"),
        (0.11, 0.3, "within 0.1", "does not hold"),
        (-0.3, -0.11, "within .1", "does not hold"),
        (0.0, 0.0, "within 0", "holds"),
        (0.0, 0.01, "within 0", "undecided"),
        (0.15, 0.28, "near 0.2 by 0.1", "holds"),
        (0.05, 0.28, "near 0.2 by 0.1", "undecided"),
        (0.31, 0.5, "near 0.2 by 0.1", "does not hold"),
        (-0.3, -0.25, "near -0.2 by .1", "holds"),
    ],
)
def test_a_shift_that_should_be_none_must_lie_within_its_bound(
    low: float, high: float, rule: str, expected: str
) -> None:
    """The whole interval counts, on both sides of zero; its mean alone decides nothing."""
    assert verdict(Interval((low + high) / 2, low, high, 12), rule) == expected


@given(st.floats(0, 1), numbers, st.floats(0, 50))
def test_within_does_not_care_about_the_sign_of_a_shift(x: float, at: float, half: float) -> None:
    found = [verdict(Interval(a, a - half, a + half, 3), f"within {x:.6f}") for a in (at, -at)]
    assert found[0] == found[1]
    wider = verdict(Interval(at, at - half, at + half, 3), "within 1000")
    assert wider == "holds"


@pytest.mark.parametrize(
    "rule", ["within", "within x", "value within 0.1", "within 0.1 0.2", "within -0.1"]
)
def test_unreadable_bounds_are_refused(rule: str) -> None:
    with pytest.raises(UserError, match="Cannot read the rule"):
        verdict(Interval(0.0, -0.1, 0.1, 12), rule)
