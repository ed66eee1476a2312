"""Means over seeds: which runs are one setting, and what is shown of them."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from oocr_lib.runner import sweep_summary
from oocr_lib.util.statistics import bootstrap


def table(rows: list[dict], *varied: str) -> pd.DataFrame:
    """A sweep's table of one metric."""
    key = {"family": "all", "method": "base", "measure": "mc5"}
    ends = {"low": 0.0, "high": 1.0, "n": 8, "folder": "x"}
    whole = [{**{n: row[n] for n in varied}, **key, **ends, **row} for row in rows]
    return pd.DataFrame(whole)


def test_runs_that_differ_in_the_seed_only_are_one_setting() -> None:
    values = {0: 0.1, 1: 0.4, 2: 0.6}
    rows = [{"seed": s, "rate": 10, "value": v} for s, v in values.items()]
    rows.append({"seed": 0, "rate": 9, "value": 0.3})
    made = sweep_summary.summary(table(rows, "seed", "rate"))
    assert made["rate"].tolist() == [9, 10] and made["n"].tolist() == [1, 3]
    assert "seed" not in made.columns
    one, three = made.iloc[0], made.iloc[1]
    assert one["value"] == 0.3 and math.isnan(one["low"]) and math.isnan(one["high"])
    expected = bootstrap(values.values())
    assert (three["value"], three["low"], three["high"]) == (
        expected.value,
        expected.low,
        expected.high,
    )


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ([10, 9, 100], [9, 10, 100]),
        (["b", "", "a"], ["", "a", "b"]),
        ([[0, 1], [0]], ["[0, 1]", "[0]"]),
        ([math.nan, "x"], ["", "x"]),
        ([True, False], [False, True]),
    ],
    ids=str,
)
def test_settings_are_in_order_whatever_their_type(given: list, order: list) -> None:
    rows = [{"name": value, "value": 0.5} for value in given for _ in range(2)]
    made = sweep_summary.summary(table(rows, "name"))
    assert made["name"].tolist() == order and set(made["n"]) == {2}


def test_the_screen_has_the_metrics_of_the_claims_and_not_too_many() -> None:
    rows = [
        {"city": f"c{i:02d}", "measure": measure, "value": i / 30}
        for i in range(30)
        for measure in ("mc5", "top1")
    ]
    summed = sweep_summary.summary(table(rows, "city"))
    lines = sweep_summary.on_screen(summed, ["all/base/top1", "not/there/now"])
    assert lines[0].startswith("Means over seeds") and lines[1].split()[:2] == ["city", "metric"]
    assert len(lines) == 2 + 20 + 1 and all("all/base/top1" in line for line in lines[2:-1])
    assert lines[2].split() == ["c00", "all/base/top1", "0.00", "1"]
    assert lines[-1] == "40 more rows are in summary.csv."
    assert sweep_summary.on_screen(summed.head(21), [])[-1] == "1 more row is in summary.csv."
    few = sweep_summary.on_screen(summed.head(3), [])
    assert len(few) == 2 + 3 and "mc5" in few[2] and "top1" in few[3]
