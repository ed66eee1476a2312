"""One line of a task's audit, and the two usual limits: nothing is found, a share is fair."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from oocr_lib.tasks.base import Question, Row

#: From this many items on, the same answer every time is never acceptable.
FEW = 6


class Line(NamedTuple):
    """One check: what was found, what is allowed ("" for reports), and whether it passes."""

    check: str
    value: float
    limit: str
    ok: bool
    note: str


def report(check: str, value: float, note: str = "") -> Line:
    """A number without a limit."""
    return Line(check, float(value), "", True, note)


def nothing(check: str, found: Iterable[object]) -> Line:
    """A check that passes if nothing is found; the note lists the first five finds."""
    texts = [str(item) for item in found]
    note = ", ".join(texts[:5]) + (", …" if len(texts) > 5 else "")
    return Line(check, float(len(texts)), "= 0", not texts, note)


def fair_share(check: str, share: float, fair: float, n: int, note: str) -> Line:
    """A share of n items that may exceed the fair one by at most three standard errors."""
    limit = min(1.0, fair + 3 * math.sqrt(fair * (1 - fair) / n))
    if n >= FEW:
        limit = min(limit, (n - 1) / n)
    return Line(check, share, f"<= {limit:.3f}", share <= limit, note)


def is_letter(text: str) -> bool:
    """Whether a text is a single capital letter, such as the name of an option."""
    return len(text) == 1 and "A" <= text <= "Z"


def prompt_of(item: Row | Question) -> str:
    """All turns of a prompt and the given start of the model's turn, as one text."""
    return "\n".join([*(m["content"] for m in item.messages), *filter(None, [item.prefix])])


def plain(text: str) -> str:
    """A text without differences that do not count between prompts: case and spacing."""
    return " ".join(text.casefold().split())
