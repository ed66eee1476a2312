"""Reads text files from elsewhere: UTF-8, JSON and keys are checked, with one-line errors."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oocr_lib.util.errors import UserError, choose, short

__all__ = ["BOM", "AnyPath", "check_text", "decode", "keys_of", "parse", "require_file", "short"]

BOM = b"\xef\xbb\xbf"
AnyPath = str | os.PathLike[str]


def check_text(text: str, where: str) -> str:
    """The text, if UTF-8 can hold it.

    Raises:
        UserError: half of a surrogate pair, which no UTF-8 file can hold.
    """
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(
                f"{where}: the text {short(text)} holds half of a surrogate pair "
                f"({text[error.start]!a}). Allowed: whole characters; write the pair in full."
            ) from error
    return text


def keys_of(
    value: object, allowed: Sequence[str], where: str, what: str, *, others: bool = False
) -> dict[str, Any]:
    """The value, if it is a dict with exactly these keys; with ``others``, at least these.

    Raises:
        UserError: not a dict, a missing key or an unknown one.
    """
    if isinstance(value, dict) and value.keys() == set(allowed):
        return value  # the usual case, first because files have many rows
    if not isinstance(value, dict):
        raise UserError(
            f"{where}: {what} is {short(value)}. Allowed: an object with keys {', '.join(allowed)}."
        )
    for key in allowed:
        if key not in value:
            raise UserError(
                f"{where}: {what} lacks key {key!r}; it has {short(list(value))}. "
                f"Allowed: {', '.join(allowed)}."
            )
    for key in value:
        if not others:
            choose(key, allowed, f"key in {what}", f"({where}.)")
    return value


def require_file(path: AnyPath) -> None:
    """Check that the file exists.

    Raises:
        UserError: it does not.
    """
    if not Path(path).is_file():
        raise UserError(f"No file {str(path)!r}. Allowed: an existing file; check the path.")


def decode(raw: bytes, where: str) -> str:
    """UTF-8 text.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where}: byte {error.start + 1} (0x{raw[error.start]:02x}) is not UTF-8. Allowed: "
            "UTF-8 text; convert the file."
        ) from error


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError(f"a key comes twice in {short([key for key, _ in pairs])}")
    return table


def parse(text: str, where: str, hint: str) -> Any:
    """The JSON value that a text holds.

    Raises:
        UserError: broken JSON, a key that comes twice, or lists nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_no_doubles)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, " if error.lineno > 1 else ""
        reason = f"{error.msg} at {place}column {error.colno}"
        raise UserError(f"{where}: {short(text)} is not valid JSON ({reason}). {hint}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {short(text)} is not valid JSON ({error}). {hint}") from error
