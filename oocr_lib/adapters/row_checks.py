"""Refuse rows and questions that would have no effect, before anything is computed.

A row without an answer trains nothing. Where a vector is added at the code name, a row without the
code name trains the vector to zero, and a question without it is answered by the bare model, as if
nothing had been learned.
"""

from __future__ import annotations

from collections.abc import Sequence

from oocr_lib.adapters.base import Attached
from oocr_lib.encoding import Encoded
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.util.errors import UserError
from oocr_lib.util.parsing import short


def position_of(attached: Attached | None, run: int = 0) -> str:
    """Which tokens of a row the adapter of a run touches; "all" without an adapter."""
    positions = attached.positions if attached is not None else ("all",)
    return positions[run] if 0 <= run < len(positions) else positions[0]


def lacks(item: Encoded, position: str) -> bool:
    """Whether a row or question has no mark for an adapter at ``position``, by mistake.

    An empty mark, ``marks={"codename": ()}``, says that it is so on purpose: a control.
    """
    return position != "all" and position not in item.spans


def unmarked(what: str, position: str, todo: str = "") -> UserError:
    """The error for a row or question that lacks the tokens where its adapter is added.

    Args:
        what: the row or question, with its number and text.
        todo: what to do about it, if not to give it marks.
    """
    todo = todo or (
        f"give it marks={{{position!r}: (...,)}}, or {{{position!r}: ()}} for a control that has "
        "none on purpose"
    )
    return UserError(
        f"{what} has no token marked {position!r}, where the adapter is added: it would change "
        f"nothing. Allowed: marked ones; {todo}."
    )


def check_rows(
    lm: LanguageModel, rows: Sequence[Encoded], attached: Attached | None, run: int, what: str
) -> None:
    """Check the rows of one run, whose adapter is in place.

    Args:
        what: which rows they are, "training" or "validation", for the message.

    Raises:
        UserError: no rows, one without an answer or without marked tokens (named by its number,
            from 1, and its text), or none at all with marked tokens.
    """
    if not rows:
        raise UserError(f"Run {run} without {what} rows cannot be used. Allowed: at least one row.")
    position = position_of(attached, run)
    for number, row in enumerate(rows, start=1):
        if not row.answer[1] > row.answer[0] > 0 or _blank(lm, row):
            raise UserError(
                f"{_named(what, number, run, row)} has an empty answer or prompt. Allowed: text in "
                "both; leave the row out."
            )
        if lacks(row, position):
            raise unmarked(_named(what, number, run, row), position)
    if position != "all" and not any(row.spans[position] for row in rows):
        raise UserError(
            f"None of the {len(rows)} {what} rows of run {run} has a token at {position!r}, where "
            "its adapter is added. Allowed: rows with the mark; or another position."
        )


def _named(what: str, number: int, run: int, row: Encoded) -> str:
    return f"{what.capitalize()} row {number} of run {run} {short(row.text)}"


def _blank(lm: LanguageModel, row: Encoded) -> bool:
    """Whether the answer is spaces alone; only then is it worth decoding."""
    if not row.text or not row.text[-1].isspace():
        return False
    return not lm.tokenizer.decode(list(row.ids[row.answer[0] : row.answer[1]])).strip()
