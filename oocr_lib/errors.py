"""Errors that a reader sees: one line that names the value, what is allowed and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


class UserError(ValueError):
    """Bad input. The message is one line: value received, values allowed, what to do."""

    def _render_traceback_(self) -> list[str]:
        """One line in notebooks, too: where it was raised does not help a reader."""
        return [f"UserError: {self}"]


def choose(value: T, allowed: Iterable[T], what: str, hint: str = "") -> T:
    """Return ``value`` if it is one of ``allowed``.

    Raises:
        UserError: naming the value, the closest allowed value and all allowed ones.
    """
    options = list(allowed)
    if value in options:
        return value
    close = difflib.get_close_matches(str(value), [str(o) for o in options], n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(str(o) for o in options[:40]) + (", …" if len(options) > 40 else "")
    tail = f" {hint}" if hint else ""
    raise UserError(f"Unknown {what} {value!r}.{guess} Allowed: {shown}.{tail}")
