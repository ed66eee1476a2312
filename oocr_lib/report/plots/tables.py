"""Tables that can be drawn: a pandas data frame or a list of dictionaries, checked once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError

Table: TypeAlias = pd.DataFrame | Sequence[Mapping[str, Any]]


@checked
def frame(
    table: Table,
    numbers: Iterable[str],
    names: Iterable[str],
    what: str,
    sparse: Iterable[str] = (),
) -> pd.DataFrame:
    """Return ``table`` as a data frame after checking that it can be drawn.

    Args:
        table: data frame, or a list of dictionaries (one per row).
        numbers: columns that must be there and hold finite numbers.
        names: columns that must be there and hold text; they become strings.
        what: the figure's name, for the message.
        sparse: columns that must be there and hold finite numbers or nothing (NaN, None).

    Raises:
        UserError: not a table, empty, a missing column, or a value that is not a finite number.
    """
    data = as_frame(table, what)
    numbers, names, sparse = list(numbers), list(names), list(sparse)
    needed = [*names, *numbers, *sparse]
    missing = [column for column in needed if column not in data.columns]
    if missing:
        raise UserError(
            f"{what}: column {missing[0]!r} is missing. Received: "
            f"{', '.join(map(str, data.columns)) or 'no columns'}. Needed: {', '.join(needed)}."
        )
    if data.empty:
        raise UserError(f"{what}: the table has no rows. Pass at least one row.")
    data = data.copy()
    for column in names:
        if data[column].isna().any():
            raise UserError(f"{what}: column {column!r} is empty in a row. Give every row a name.")
        data[column] = data[column].astype(str)
    for column in numbers:
        data[column] = _numeric(data, column, what)
    for column in sparse:
        present = data[column].notna()
        data.loc[present, column] = _numeric(data[present], column, what)
        data[column] = data[column].astype(float)
    return data.reset_index(drop=True)


@checked
def as_frame(table: Table, what: str) -> pd.DataFrame:
    """Return ``table`` as a data frame with at least one row.

    Raises:
        UserError: not a table, or no rows.
    """
    if isinstance(table, pd.DataFrame):
        return table
    if isinstance(table, (list, tuple)) and all(isinstance(row, Mapping) for row in table):
        if not table:
            raise UserError(f"{what}: the table has no rows. Pass at least one row.")
        return pd.DataFrame([dict(row) for row in table])
    raise UserError(
        f"{what}: received {type(table).__name__}. Pass a pandas DataFrame or a list of dicts."
    )


def _numeric(data: pd.DataFrame, column: str, what: str) -> pd.Series:
    values = pd.to_numeric(data[column], errors="coerce").astype(float)
    bad = [str(raw) for raw, x in zip(data[column], values, strict=True) if not math.isfinite(x)]
    if bad:
        raise UserError(
            f"{what}: column {column!r} holds {bad[0]!r}. Every value must be a finite number; "
            "leave the row out if there is none."
        )
    return values


@checked
def finite(value: Any, what: str) -> float:
    """Return ``value`` as a float.

    Raises:
        UserError: not a finite number.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{what}: received {value!r}. Pass a finite number.")
    return number


@checked
def check_intervals(data: pd.DataFrame, what: str) -> None:
    """Refuse intervals whose low end is above the high one.

    Raises:
        UserError: a row with ``low`` above ``high``.
    """
    wrong = data[data["low"] > data["high"]]
    if len(wrong):
        low, high = wrong.iloc[0]["low"], wrong.iloc[0]["high"]
        raise UserError(f"{what}: interval [{low:g}, {high:g}] has low > high. Swap the columns.")
