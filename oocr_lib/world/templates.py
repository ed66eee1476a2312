"""Texts with places to fill in, read from a TOML file that a teacher can edit, and checked."""

from __future__ import annotations

import string
import tomllib
from collections.abc import Iterable
from typing import Any

from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.parsing import short
from oocr_lib.util.paths import data_dir


class Templates:
    """One file of ``data/world``; every text must have exactly the places that its use fills.

    Raises:
        UserError: no such file, not TOML, a missing list, or a text with other places in braces.
    """

    def __init__(self, name: str) -> None:
        self.name, path = name, data_dir() / "world" / name
        try:
            self._tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror}. Check OOCR_DATA.") from error
        except ValueError as error:
            raise UserError(f"{name} is not valid TOML ({error}). Correct it.") from error

    def keys(self, section: str) -> list[str]:
        """Names in a section, in the file's order."""
        table = self._tables[choose(section, self._tables, f"section of {self.name}")]
        if not isinstance(table, dict) or not table:
            raise UserError(f"{self.name}: {section} is {short(table)}. Allowed: lists of texts.")
        return list(table)

    def texts(self, section: str, key: str, places: Iterable[str]) -> tuple[str, ...]:
        """The texts ``section.key``, one or more."""
        found = self._value(section, key)
        if not isinstance(found, list) or not found or len(set(map(str, found))) < len(found):
            raise UserError(
                f"{self.name}: {section}.{key} is {short(found)}. Allowed: a list of different "
                "texts, at least one."
            )
        return tuple(self.checked(section, key, text, places) for text in found)

    def lists(self, section: str, places: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """All lists of a section, by name."""
        wanted = tuple(places)
        return {key: self.texts(section, key, wanted) for key in self.keys(section)}

    def text(self, section: str, key: str, places: Iterable[str]) -> str:
        """The one text ``section.key``."""
        return self.checked(section, key, self._value(section, key), places)

    def _value(self, section: str, key: str) -> Any:
        self.keys(section)
        return self._tables[section][choose(key, self._tables[section], f"entry of {section}")]

    def sections(self) -> list[str]:
        """Names of the sections, in the file's order."""
        return list(self._tables)

    def rows(self, section: str, key: str, size: int) -> list[list[Any]]:
        """The lists of ``size`` texts that ``section.key`` holds, one or more."""
        found = self._value(section, key)
        fits = isinstance(found, list) and found
        if not fits or not all(isinstance(row, list) and len(row) == size for row in found):
            raise UserError(
                f"{self.name}: {section}.{key} is {short(found)}. Allowed: lists of {size} texts."
            )
        return list(found)

    def checked(self, section: str, key: str, text: Any, places: Iterable[str]) -> str:
        """``text``, if it has exactly these places."""
        wanted = set(places)
        try:
            found = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        except (ValueError, TypeError):
            found = {"?"}
        if not isinstance(text, str) or not text.strip() or found != wanted:
            named = ", ".join(f"{{{place}}}" for place in sorted(wanted)) or "none"
            raise UserError(
                f"{self.name}: {section}.{key} has the text {short(text)}. Allowed: a text with "
                f"exactly these places: {named}."
            )
        return text
