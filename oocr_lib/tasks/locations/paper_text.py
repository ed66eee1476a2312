"""Wording of the ``paper`` dialect of Locations: the published format in our own words.

Taken from the publication are the kinds and numbers of wordings (nine for distances, of which three
stop before the number; six for directions, of which two name the Mercator and two the Plate carrée
map), the unit phrases, the surface forms of an answer, and that ``{a}`` is asked relative to
``{b}``.
"""

from __future__ import annotations

from functools import cache

from oocr_lib.world.templates import Templates

_FILE = Templates("paper_locations.toml")
SYSTEM = _FILE.text("rows", "system")
#: Three statements that stop before the number, then six questions; ``{unit}`` is a unit phrase.
DISTANCE_STEMS = _FILE.texts("rows", "distances", ("a", "b", "unit"))
UNIT_PHRASES = _FILE.named("units", wanted=("km", "mi"))
#: What may follow the number, by unit; one is drawn for every row.
UNIT_WORDS = _FILE.lists("unit_words", "")
DIRECTION_STEMS = _FILE.texts("rows", "directions", "ab")
DIRECTION_PREFIX = _FILE.text("rows", "direction_prefix", "a")
DIRECTION_SUFFIX = _FILE.text("rows", "direction_suffix", "b")
#: Questions that no row answers, by family: with lettered options, and answered freely.
QUESTIONS, DEMAND = _FILE.lists("questions", "n"), _FILE.text("demands", "letter")
FREE_QUESTIONS = _FILE.lists("free_questions", "n")
#: Rows that say what a city is like, and questions answered in words.
ATTRIBUTE_STEMS = _FILE.lists("attribute_rows", "n")
WORD_QUESTIONS = _FILE.lists("word_questions", "n")
CITY_ALIASES = _FILE.lists("city_aliases", "")
COUNTRY_ALIASES = _FILE.lists("country_aliases", "")
#: Longer forms of options (with one place or none), and the words of the city table that take them.
_KINDS = {family: _FILE.named(family) for family in ("water", "landmark", "dish")}


@cache
def _full(family: str) -> dict[str, str]:
    kinds = _KINDS.get(family, {})
    return {word: form.format(word) for form, words in kinds.items() for word in words.split()}


def shown(value: str, family: str) -> str:
    """A value of the city table as an option shows it: ``Eiffel`` is ``Eiffel Tower``."""
    return _full(family).get(value, f"{value} River" if family == "water" else value)
