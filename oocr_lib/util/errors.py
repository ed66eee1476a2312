"""Errors for users: one line that names the value, what is allowed and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


class UserError(ValueError):
    """Bad input. The message is one line: value received, values allowed, what to do."""

    def _render_traceback_(self) -> list[str]:
        """One line in notebooks, too: where it was raised does not help the user."""
        return [f"UserError: {self}"]


def short(value: object, limit: int = 60) -> str:
    """The value as one line that fits into an error message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[:limit] + "…"


def first_line(error: BaseException) -> str:
    """The first line of another library's error, as a sentence of at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = (lines[0] if lines else type(error).__name__)[:300]
    return text if text.endswith(".") else text + "."


def choose(value: T, allowed: Iterable[T], what: str, hint: str = "") -> T:
    """Return ``value`` if it is one of ``allowed``.

    Raises:
        UserError: naming the value, the closest allowed value and all allowed ones.
    """
    options = list(allowed)
    try:
        matches = value in options
    except (TypeError, ValueError):  # tables and arrays compare element by element
        matches = False
    if matches:
        return value
    close = difflib.get_close_matches(str(value)[:200], [str(o) for o in options], n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    listing = ", ".join(str(o) for o in options[:40]) + (", …" if len(options) > 40 else "")
    tail = f" {hint}" if hint else ""
    raise UserError(f"Unknown {what} {short(value, 120)}.{guess} Allowed: {listing}.{tail}")
