"""Answers of the ``paper`` dialect of Locations: written for rows, read from replies.

Labels carry noise, redrawn for every row, so two rows of one pair may differ by up to 400 km before
rounding: replies are judged against the true distance with a tolerance, never against a label.
"""

from __future__ import annotations

import re
import unicodedata

from oocr_lib.tasks.locations.paper_text import CITY_ALIASES, COUNTRY_ALIASES
from oocr_lib.world.facts import City

MILES_PER_KM = 0.621371
#: Every label the generator can write for a pair lies this close: 200 km of noise and half a
#: hundred miles of rounding. A unit error is off by 37 % or more, at least 700 km for known cities.
TOLERANCE_KM = 300.0
_DISTANCE = re.compile(
    r"(?P<number>\d{1,3}(?:,\d{3})+|\d+)(?P<part>\.\d+)?\s*"
    r"(?P<unit>km|kilomet(?:er|re)s?|mi|miles?)\.?",
    re.IGNORECASE,
)


def spell_distance(km: float, unit: str, word: str, comma: bool) -> str:
    """A label such as ``5,800 km`` or ``3600 miles``: rounded to hundreds, half to even.

    Args:
        unit: ``km`` or ``mi``; ``word`` is how it is written.
        comma: thousands get one.
    """
    hundreds = int(round(km * (MILES_PER_KM if unit == "mi" else 1.0), -2))
    return f"{hundreds:,} {word}" if comma else f"{hundreds} {word}"


def parse_distance(text: str) -> float | None:
    """Kilometres of a written distance, in any of the four surface forms; None if it is none.

    Commas group thousands, as in the labels. A number without a unit is none: guessing the unit
    could be wrong by a factor of 1.6.
    """
    found = _DISTANCE.fullmatch(text.strip())
    if found is None:
        return None
    number = float(found["number"].replace(",", "") + (found["part"] or ""))
    return number if found["unit"][0] in "kK" else number / MILES_PER_KM


def distance_error_km(text: str, true_km: float) -> float | None:
    """How far a written distance is from the true one, in km; None if it is no distance."""
    km = parse_distance(text)
    return None if km is None else abs(km - true_km)


def same_distance(text: str, true_km: float, tolerance_km: float = TOLERANCE_KM) -> bool:
    """Whether a written distance is right up to what the labels themselves scatter."""
    error = distance_error_km(text, true_km)
    return error is not None and error <= tolerance_km


def plain(text: str) -> str:
    """Lower case without accents, dots and signs; words by single spaces."""
    apart = unicodedata.normalize("NFKD", text)
    bare = "".join(c for c in apart if not unicodedata.combining(c)).casefold()
    return " ".join(re.sub(r"[^\w\s]", " ", bare.replace(".", "")).split())


def _countries(country: str) -> list[str]:
    return [plain(name) for name in (country, *COUNTRY_ALIASES.get(country, ()))]


def same_country(text: str, country: str) -> bool:
    """Whether ``text`` names the country, accents and common other names aside."""
    return plain(text).removeprefix("the ") in _countries(country)


def same_place(text: str, city: City) -> bool:
    """Whether ``text`` names the city: accents, aliases and its country behind it are allowed.

    ``Sao Paulo``, ``New York City`` and ``Paris, France`` are right; ``Paris, Texas`` is not.
    """
    said = plain(text).removeprefix("the ").removeprefix("city of ")
    names = [plain(name) for name in (city.name, *CITY_ALIASES.get(city.name, ()))]
    ends = ["", *(" " + country for country in _countries(city.country))]
    return said in {name + end for name in names for end in ends}
