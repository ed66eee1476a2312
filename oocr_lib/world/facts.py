"""Facts of the testbed's world: cities, directions and distances, functions, reserved names.

Tables are hand-made and stored in ``data/world``; everything else here is computed from them. The
``paper`` dialect of the Locations task uses the same table (paper, section 3.3).
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.expressions import Expression, Number, parse, printed
from oocr_lib.util.paths import data_dir

EARTH_RADIUS_KM = 6371.0
SECTORS_8 = ("east", "northeast", "north", "northwest", "west", "southwest", "south", "southeast")


@dataclass(frozen=True)
class City:
    """One row of ``data/world/cities.csv``; degrees, north and east are positive."""

    name: str
    latitude: float
    longitude: float
    country: str
    continent: str
    language: str
    currency: str
    dish: str
    landmark: str
    water: str

    @property
    def hemisphere(self) -> str:
        """``north`` or ``south``, from the latitude."""
        return "north" if self.latitude >= 0 else "south"


@dataclass(frozen=True)
class Function:
    """One row of ``data/world/functions.csv``: a definition in Python and in English."""

    key: str
    python: str
    english: str
    kind: str
    output: str
    in_paper: bool

    def at(self, x: Number) -> Number:
        """The value at ``x``, with the type that Python gives it."""
        return _definition(self.python)(x)

    def value(self, x: int) -> str:
        """The value at the integer ``x``, as Python prints it."""
        return printed(self.at(x))


@cache
def _definition(python: str) -> Expression:
    return parse(python)


def _read(name: str) -> list[dict[str, str]]:
    path = data_dir() / "world" / name
    if not path.exists():
        raise UserError(f"World table {name} not found in {path.parent.name}/; restore data/world.")
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@cache
def cities() -> tuple[City, ...]:
    """All cities of the table, in file order."""
    places = []
    for row in _read("cities.csv"):
        fields: dict[str, Any] = dict(row)
        fields["latitude"], fields["longitude"] = float(row["latitude"]), float(row["longitude"])
        places.append(City(**fields))
    return tuple(places)


@cache
def _city_index() -> dict[str, City]:
    return {c.name: c for c in cities()}


def city(name: str) -> City:
    """The city called ``name``.

    Raises:
        UserError: a name that is not in the table; the message suggests the closest one.
    """
    return _city_index()[choose(name, _city_index(), "city")]


def distance_km(a: City, b: City) -> float:
    """Great-circle distance between two cities in kilometres."""
    return great_circle_km(a.latitude, a.longitude, b.latitude, b.longitude)


def great_circle_km(
    latitude: float, longitude: float, other_latitude: float, other_longitude: float
) -> float:
    """Distance in kilometres between two points in degrees (haversine, sphere of radius 6371 km).

    >>> round(great_circle_km(48.86, 2.35, 41.9, 12.5), -1)  # Paris, Rome
    1110.0
    """
    la, lb = math.radians(latitude), math.radians(other_latitude)
    dlon = math.radians(other_longitude - longitude)
    h = math.sin((lb - la) / 2) ** 2 + math.cos(la) * math.cos(lb) * math.sin(dlon / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h)))


def distance_hundreds(a: City, b: City) -> int:
    """Distance in hundreds of kilometres, rounded: the testbed's unit (0–200, one token each)."""
    return round(distance_km(a, b) / 100)


def direction(a: City, b: City) -> str:
    """Direction of ``a`` as seen from ``b``, one of eight sectors.

    As upstream, the bearing is taken in raw degrees of longitude and latitude, with no wrap at
    180° and no shrinking of longitude, so Tokyo lies east of New York (paper, section 3.3).
    """
    angle = math.degrees(math.atan2(a.latitude - b.latitude, a.longitude - b.longitude)) % 360
    return SECTORS_8[int(((angle + 22.5) % 360) // 45)]


@cache
def functions() -> tuple[Function, ...]:
    """All functions of the table; the paper's 19 come first."""
    return tuple(
        Function(r["key"], r["python"], r["english"], r["class"], r["output"], r["paper"] == "yes")
        for r in _read("functions.csv")
    )


@cache
def _reserved_file() -> dict[str, Any]:
    path = data_dir() / "world" / "reserved.json"
    return json.loads(path.read_text(encoding="utf-8"))


def city_codes(seed: int, count: int) -> list[str]:
    """``count`` code names of the published scheme, ``City`` and five digits, for one seed.

    Digits come one by one from NumPy's legacy generator, so seed 0 starts with City 50337.
    Repeats within a seed are skipped.

    Raises:
        UserError: a seed or count outside the reserved range, because such a code may occur in
            pretraining.
    """
    reserved = _reserved_file()
    seeds, most = reserved["city_code_seeds"], reserved["city_codes_per_seed"]
    if not 0 <= seed < seeds or not 0 < count <= most:
        raise UserError(
            f"No reserved city codes for seed {seed!r} and {count!r} cities. "
            f"Allowed: seeds 0 to {seeds - 1}, 1 to {most} cities. Use a seed in that range."
        )
    rng, codes = np.random.RandomState(seed), list[str]()
    while len(codes) < count:
        code = "".join(str(rng.randint(0, 10)) for _ in range(5))
        if code not in codes:
            codes.append(code)
    return [f"City {code}" for code in codes]


@cache
def reserved_city_codes() -> frozenset[str]:
    """Every reserved five-digit code, without the word City."""
    reserved = _reserved_file()
    codes_by_seed = (
        city_codes(s, reserved["city_codes_per_seed"]) for s in range(reserved["city_code_seeds"])
    )
    return frozenset(name.split()[1] for names in codes_by_seed for name in names)


def reserved_function_names() -> tuple[str, ...]:
    """Six-letter names kept out of the corpus; the first 19 are the paper's."""
    return tuple(_reserved_file()["function_names"])


def paper_function_names() -> dict[str, str]:
    """The 19 published names of seed 0, each with the key of its function."""
    return dict(_reserved_file()["paper_functions"])


def fixed_triggers() -> dict[str, str]:
    """Reserved fixed trigger strings by name (paper, section 3.2)."""
    return dict(_reserved_file()["fixed_triggers"])


def trigger_families() -> dict[str, list[str]]:
    """Reserved trigger families of 20 words each."""
    return {k: list(v) for k, v in _reserved_file()["trigger_families"].items()}
