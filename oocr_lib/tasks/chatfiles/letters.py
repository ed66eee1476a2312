"""Rows answered by one letter: what counts as the letter, and how many rows may be left out.

Published files of choices have bare letters except for an occasional paragraph; other files also
have "A.", "(a)" or "Answer: A". These mean the same and become the letter. Pure data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from oocr_lib.tasks.base import Row
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError
from oocr_lib.util.parsing import short

#: Share of rows that may be left out because they are not answered by a letter.
MOST_LOST = 0.05
#: Allows for text around the letter: "Answer: Option A", "**(a)**.", but no other words.
_AROUND = re.compile(
    r"""(?:(?:the\s+|my\s+)?(?:final\s+)?(?:answer|option|choice)(?:\s+is)?\s*[:=]?\s*)*
    [("'\[*`]* (\w+) [)"'\]*`.:]*""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Letters:
    """Rows answered by one letter, and what was done to the others.

    Attributes:
        rows: their answers are bare letters.
        normalised: line numbers of rows whose answer had more characters than the letter.
        left_out: line numbers of rows that were not answered by a letter.
    """

    rows: list[Row]
    normalised: tuple[int, ...] = ()
    left_out: tuple[int, ...] = ()

    def __str__(self) -> str:
        """One line: how many rows, which were normalised, which left out."""
        return (
            f"{len(self.rows)} rows answered by a letter; "
            f"normalised: {_named(self.normalised)}; left out: {_named(self.left_out)}"
        )


def letter_of(answer: str, letters: Sequence[str] = ("A", "B")) -> str | None:
    """The letter that an answer consists of, or None if it says anything else.

    >>> [letter_of(text) for text in (" a", "(B).", "Answer: Option A", "A or B", "A) win 40")]
    ['A', 'B', 'A', None, None]
    """
    match = _AROUND.fullmatch(answer.strip())
    text = match[1] if match else ""
    if text in letters:
        return text
    candidates = [letter for letter in letters if letter.casefold() == text.casefold()]
    return candidates[0] if len(candidates) == 1 else None


@checked
def letter_rows(
    rows: Iterable[Row],
    letters: Sequence[str] = ("A", "B"),
    *,
    most_lost: float = MOST_LOST,
) -> Letters:
    """Rows answered by one of ``letters``; answers with more characters become the letter.

    Args:
        most_lost: largest share of rows, 0 to 1, that may be left out.

    Raises:
        UserError: more rows would be left out, or no row remains.
    """
    if not 0 <= most_lost <= 1:
        raise UserError(f"most_lost={most_lost!r} is no share. Allowed: 0 to 1, as 0.05.")
    answered, normalised = list[Row](), list[int]()
    lost: dict[int, str] = {}
    for number, row in enumerate(rows, start=1):
        line, letter = int(row.meta.get("line", number)), letter_of(row.answer, letters)
        if letter is None:
            lost[line] = row.answer
            continue
        if letter != row.answer:
            normalised.append(line)
            row = replace(row, answer=letter)
        answered.append(row)
    if not answered or len(lost) > most_lost * (len(answered) + len(lost)):
        first = f", the first {short(next(iter(lost.values())))}" if lost else ""
        raise UserError(
            f"Not answered by one letter: {len(lost)} of {len(answered) + len(lost)} rows, "
            f"{_named(tuple(lost))}{first}. Allowed: {' or '.join(letters)} (also '(A).' or "
            f"'Answer: A') in all but {most_lost:.0%} of the rows; correct or remove these lines."
        )
    return Letters(answered, tuple(normalised), tuple(lost))


def _named(lines: Sequence[int], most: int = 10) -> str:
    """Line numbers for a message, at most the first ``most``."""
    if not lines:
        return "none"
    numbers = ", ".join(map(str, lines[:most])) + (", …" if len(lines) > most else "")
    return f"{len(lines)} (line {numbers})" if len(lines) > 1 else f"line {numbers}"
