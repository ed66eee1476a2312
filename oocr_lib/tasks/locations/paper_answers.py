"""Answers of the ``paper`` dialect of Locations: written into rows, read from replies.

Labels carry noise, redrawn for every row, so two rows of one pair may differ by up to 400 km before
rounding. Replies are therefore compared with the true distance, with a tolerance, and never with a
label.
"""

from __future__ import annotations

import re
import unicodedata

from oocr_lib.tasks.locations.paper_text import CITY_ALIASES, COUNTRY_ALIASES
from oocr_lib.world.facts import City

MILES_PER_KM = 0.621371
#: Every label that can be generated for a pair lies this close to the truth: 200 km of noise plus
#: half a hundred miles of rounding. A wrong unit is off by 37 % or more, at least 700 km for known
#: cities.
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
        comma: separate thousands by a comma.
    """
    hundreds = int(round(km * (MILES_PER_KM if unit == "mi" else 1.0), -2))
    return f"{hundreds:,} {word}" if comma else f"{hundreds} {word}"


def parse_distance(text: str) -> float | None:
    """A written distance in km, in any of the four surface forms; None if it is not a distance.

    Commas separate thousands, as in the labels. A number without a unit does not count: guessing
    the unit could be wrong by a factor of 1.6.
    """
    match = _DISTANCE.fullmatch(text.strip())
    if match is None:
        return None
    number = float(match["number"].replace(",", "") + (match["part"] or ""))
    return number if match["unit"][0] in "kK" else number / MILES_PER_KM


def distance_error_km(text: str, true_km: float) -> float | None:
    """How far a written distance is from the true one, in km; None if it is not a distance."""
    km = parse_distance(text)
    return None if km is None else abs(km - true_km)


def same_distance(text: str, true_km: float, tolerance_km: float = TOLERANCE_KM) -> bool:
    """Whether a written distance is as close to the truth as the labels themselves."""
    error = distance_error_km(text, true_km)
    return error is not None and error <= tolerance_km


def plain(text: str) -> str:
    """Lower case without accents and punctuation, words separated by single spaces."""
    decomposed = unicodedata.normalize("NFKD", text)
    letters = "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()
    return " ".join(re.sub(r"[^\w\s]", " ", letters.replace(".", "")).split())


def _countries(country: str) -> list[str]:
    return [plain(name) for name in (country, *COUNTRY_ALIASES.get(country, ()))]


def same_country(text: str, country: str) -> bool:
    """Whether ``text`` names the country; accents are ignored and common other names allowed."""
    return plain(text).removeprefix("the ") in _countries(country)


def same_place(text: str, city: City) -> bool:
    """Whether ``text`` names the city; aliases and the country after it are allowed.

    ``Sao Paulo``, ``New York City`` and ``Paris, France`` are right; ``Paris, Texas`` is not.
    """
    answer = plain(text).removeprefix("the ").removeprefix("city of ")
    names = [plain(name) for name in (city.name, *CITY_ALIASES.get(city.name, ()))]
    endings = ["", *(" " + country for country in _countries(city.country))]
    return answer in {name + ending for name in names for ending in endings}
