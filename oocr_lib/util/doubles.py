"""Checks for duplicates: a run that is counted twice looks like two runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, TypeVar

from oocr_lib.util.errors import UserError

if TYPE_CHECKING:  # tasks, which are pure data, also use this module
    import pandas as pd

T = TypeVar("T", bound=Hashable)

#: Columns that tell the runs of a table apart, as far as it has them.
_RUN = ("run", "concept", "seed", "block", "weight")


def no_doubles(values: Iterable[T], what: str, show: Callable[[T], str] = repr) -> tuple[T, ...]:
    """The values, each of them once.

    Args:
        what: what one value is called in the message.
        show: writes the value that comes twice.

    Raises:
        UserError: a value comes twice.
    """
    items, seen = tuple(values), set[T]()
    for value in items:
        if value in seen:
            raise UserError(
                f"The {what} {show(value)} comes twice. Allowed: a list without doubles, because "
                "a run would count as two; name it once."
            )
        seen.add(value)
    return items


def check_runs(table: pd.DataFrame, what: str) -> None:
    """Check that a table to be averaged has each run once, if it has a column ``run``.

    Args:
        what: the number averaged, for the message.

    Raises:
        UserError: a run with two rows.
    """
    columns = [name for name in _RUN if name in table]
    if "run" not in columns:
        return
    duplicates = table[table.duplicated(columns)]
    if len(duplicates):
        where = ", ".join(f"{name} {duplicates[name].iloc[0]}" for name in columns)
        raise UserError(
            f"Two rows of one run ({where}) cannot be averaged in {what!r}. Allowed: one row a "
            "run; choose one family and method, and join no table twice."
        )
