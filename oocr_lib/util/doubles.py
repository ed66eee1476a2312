"""Lists in which nothing may come twice: a run that is counted twice looks like two runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, TypeVar

from oocr_lib.util.errors import UserError

if TYPE_CHECKING:  # tasks, which are pure data, use this module, too
    import pandas as pd

T = TypeVar("T", bound=Hashable)

#: Columns that tell the runs of a table apart; those it has.
_RUN = ("run", "concept", "seed", "block", "weight")


def no_doubles(values: Iterable[T], what: str, show: Callable[[T], str] = repr) -> tuple[T, ...]:
    """The values, each of them once.

    Args:
        what: what one of them is, for the message.
        show: writes the one that comes twice.

    Raises:
        UserError: one that comes twice, by its name.
    """
    made, seen = tuple(values), set[T]()
    for value in made:
        if value in seen:
            raise UserError(
                f"The {what} {show(value)} comes twice. Allowed: a list without doubles, because "
                "a run would count as two; name it once."
            )
        seen.add(value)
    return made


def check_runs(table: pd.DataFrame, what: str) -> None:
    """Check that a table to average over has each run once, where it says which runs it has.

    Args:
        what: the number averaged, for the message.

    Raises:
        UserError: a run with two rows.
    """
    columns = [name for name in _RUN if name in table]
    if "run" not in columns:
        return
    double = table[table.duplicated(columns)]
    if len(double):
        where = ", ".join(f"{name} {double[name].iloc[0]}" for name in columns)
        raise UserError(
            f"Two rows of one run ({where}) cannot be averaged in {what!r}. Allowed: one row a "
            "run; choose one family and method, and join no table twice."
        )
