"""Texts with placeholders, read from a TOML file that a teacher can edit, and checked."""

from __future__ import annotations

import string
import tomllib
from collections.abc import Iterable
from math import inf
from typing import Any

from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.parsing import short
from oocr_lib.util.paths import data_dir


class Templates:
    """One file of ``data/world``; every text must have exactly the placeholders that its use fills.

    Raises:
        UserError: no such file, not TOML, a missing list, or a text with other placeholders.
    """

    def __init__(self, name: str) -> None:
        self.name, path = name, data_dir() / "world" / name
        try:
            self._tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror}. Check OOCR_DATA.") from error
        except ValueError as error:
            raise UserError(f"{name} is not valid TOML ({error}). Correct it.") from error

    def keys(self, section: str, wanted: Iterable[str] = ()) -> list[str]:
        """Names in a section, in file order; must be exactly those in ``wanted``, if given."""
        table = self._tables[choose(section, self._tables, f"section of {self.name}")]
        if not isinstance(table, dict) or not table:
            raise UserError(f"{self.name}: {section} is {short(table)}. Allowed: lists of texts.")
        if odd := sorted(set(table) ^ set(wanted or table)):
            raise UserError(
                f"{self.name}: {section} lacks or does not know {', '.join(odd)}. Allowed: exactly "
                f"{', '.join(wanted)}."
            )
        return list(table)

    def texts(
        self, section: str, key: str, places: Iterable[str], optional: Iterable[str] = ()
    ) -> tuple[str, ...]:
        """The texts ``section.key``, one or more; each may also have ``optional`` placeholders."""
        value = self._value(section, key)
        if not isinstance(value, list) or not value or len(set(map(str, value))) < len(value):
            raise UserError(
                f"{self.name}: {section}.{key} is {short(value)}. Allowed: a list of different "
                "texts, at least one."
            )
        return tuple(self.checked(section, key, text, places, optional) for text in value)

    def lists(self, section: str, places: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """All lists of a section, by name."""
        names = tuple(places)
        return {key: self.texts(section, key, names) for key in self.keys(section)}

    def named(
        self, section: str, places: Iterable[str] = (), wanted: Iterable[str] = ()
    ) -> dict[str, str]:
        """All single texts of a section, by name."""
        return {key: self.text(section, key, places) for key in self.keys(section, wanted)}

    def words(self, section: str, key: str) -> tuple[str, ...]:
        """The words of the text ``section.key``."""
        return tuple(self.text(section, key).split())

    def share(self, section: str, key: str) -> float:
        """The number ``section.key``, 0 or more."""
        value = self._value(section, key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < inf:
            raise UserError(
                f"{self.name}: {section}.{key} is {short(value)}. Allowed: a number from 0."
            )
        return float(value)

    def text(self, section: str, key: str, places: Iterable[str] = ()) -> str:
        """The single text ``section.key``."""
        return self.checked(section, key, self._value(section, key), places)

    def _value(self, section: str, key: str) -> Any:
        self.keys(section)
        return self._tables[section][choose(key, self._tables[section], f"entry of {section}")]

    def sections(self) -> list[str]:
        """Names of the sections, in file order."""
        return list(self._tables)

    def threes(
        self, section: str, key: str, first: Iterable[str] = (), rest: Iterable[str] = ()
    ) -> tuple[tuple[str, str, str], ...]:
        """Lists of three texts; placeholders are ``first`` in the first, ``rest`` in the others."""
        triples = []
        for a, *others in self.rows(section, key, 3):
            b, c = (self.checked(section, key, text, rest) for text in others)
            triples.append((self.checked(section, key, a, first), b, c))
        return tuple(triples)

    def rows(self, section: str, key: str, size: int) -> list[list[Any]]:
        """The lists of ``size`` values in ``section.key``, one or more; values are not checked."""
        value = self._value(section, key)
        fits = isinstance(value, list) and value
        if not fits or not all(isinstance(row, list) and len(row) == size for row in value):
            raise UserError(
                f"{self.name}: {section}.{key} is {short(value)}. Allowed: lists of {size} texts."
            )
        return list(value)

    def checked(
        self, section: str, key: str, text: Any, places: Iterable[str], optional: Iterable[str] = ()
    ) -> str:
        """``text``, if it has exactly these placeholders, apart from ``optional`` ones."""
        expected = set(places)
        try:
            fields = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        except (ValueError, TypeError):
            fields = {"?"}
        odd = (expected - fields) | (fields - expected - {*optional})
        if not isinstance(text, str) or not text.strip() or odd:
            allowed = ", ".join(f"{{{place}}}" for place in sorted(expected)) or "none"
            raise UserError(
                f"{self.name}: {section}.{key} has the text {short(text)}. Allowed: a text with "
                f"exactly these places: {allowed}."
            )
        return text
