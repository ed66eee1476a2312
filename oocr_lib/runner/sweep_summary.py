"""A sweep in few rows: the mean of each metric over seeds, with its interval.

Runs that agree in all parameters but the seed are one setting. A single run has no interval: it
says nothing about other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from oocr_lib.util.statistics import bootstrap

FILE = "summary.csv"
SEED = "seed"
_KEY = ("family", "method", "measure")
#: Rows on the screen; the file has all.
_MOST = 20


def varied(made: pd.DataFrame) -> list[str]:
    """Parameters that differ between the runs of a sweep's table."""
    columns = list(made.columns)
    return columns[: columns.index("family")]


def plain(column: pd.Series) -> pd.Series:
    """The column with text in place of lists, which cannot be compared, and of missing values."""
    return column.map(lambda v: str(v) if isinstance(v, list) else v).fillna("")


def in_order(values: Iterable[Any]) -> list[Any]:
    """Each value once: numbers by size, then texts."""
    unique = dict.fromkeys(values)
    number = (int, float)
    return sorted(unique, key=lambda v: (0, v, "") if isinstance(v, number) else (1, 0, str(v)))


def summary(made: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds.

    Args:
        made: from ``sweep.table``.

    Returns:
        One row per setting and metric: the varied parameters but the seed, ``family, method,
        measure``, ``value`` (the mean), ``low`` and ``high`` (95 % bootstrap over seeds, empty for
        one run) and ``n`` (runs).
    """
    names = [name for name in varied(made) if name != SEED]
    rows = made.assign(**{name: plain(made[name]) for name in names})
    means = []
    for key, group in rows.groupby([*names, *_KEY], sort=False):
        mean = bootstrap(group["value"])
        alone = mean.n == 1
        bounds = {"low": math.nan if alone else mean.low, "high": math.nan if alone else mean.high}
        setting = dict(zip([*names, *_KEY], key, strict=True))
        means.append({**setting, "value": mean.value, **bounds, "n": mean.n})
    summed = pd.DataFrame(means)
    for name in reversed(names):  # stable: by the first parameter, then the second, ...
        position = {value: i for i, value in enumerate(in_order(summed[name]))}
        summed = summed.sort_values(name, key=lambda c, p=position: c.map(p), kind="stable")
    return summed.reset_index(drop=True)


def metric_keys(rows: pd.DataFrame) -> pd.Series:
    """``family/method/measure`` of each row."""
    return rows["family"] + "/" + rows["method"] + "/" + rows["measure"]


def interval(row: Any) -> str:
    """``0.94 [0.88, 0.99]``, or the value alone where there is no interval."""
    if math.isnan(row.low):
        return f"{row.value:z.2f}"
    return f"{row.value:z.2f} [{row.low:z.2f}, {row.high:z.2f}]"


def on_screen(summed: pd.DataFrame, claimed: Sequence[str]) -> list[str]:
    """The summary as lines of text: the metrics that claims use, and no more than fit.

    Args:
        claimed: ``family/method/measure`` of the metrics to show; empty for all.
    """
    rows = claims_only(summed, claimed)
    names = [name for name in rows.columns if name not in (*_KEY, "value", "low", "high", "n")]
    table = pd.DataFrame({name: rows[name].map(str) for name in names})
    table["metric"] = metric_keys(rows)
    table["mean [95 %]"] = [interval(row) for row in rows.itertuples()]
    table["n"] = rows["n"].map(str)
    head, *lines = table.head(_MOST).to_string(index=False, justify="left").splitlines()
    left = len(summed) - len(lines)
    noun = "row is" if left == 1 else "rows are"
    more = [f"{left} more {noun} in {FILE}."] if left else []
    return ["Means over seeds, n runs each:", head, *lines, *more]


def claims_only(rows: pd.DataFrame, claimed: Sequence[str]) -> pd.DataFrame:
    """Rows of these metrics; all rows if there are none."""
    claimed_rows = rows[metric_keys(rows).isin(list(claimed))]
    return rows if claimed_rows.empty else claimed_rows
