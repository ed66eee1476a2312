"""What the explorer shows: every city, block, dose and question, asked once and kept in one file.

All cities of the testbed's world, one vector per city and block, added at several strengths (the
dose: 1 is the vector as trained, 0 is the base model, below 0 it is reversed).
``report.explorer_maker`` makes the file; ``load`` and ``look`` are what a page or a widget needs,
and run no model. ``notebook.explore`` asks the same of any city and block while a reader waits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.util import files
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.paths import data_dir
from oocr_lib.world import facts as world

FILE = "explorer.json"
SCHEMA = 2
#: From a block where a vector does everything to one where it comes too late.
BLOCKS = (0, 2, 4, 6)
#: The blocks for cities that are not in notebook 03.
FEW_BLOCKS = (0, 4)
#: The most cities that share a seed; a seed has sixteen code names.
TOGETHER = 10
#: Strengths, in steps of a quarter: most of the change is between 0 and 1.
DOSES = tuple(step / 4 for step in range(-8, 13))
#: The file holds shares and masses as whole thousandths, which halves its size.
UNIT = 1000


@dataclass(frozen=True)
class Group:
    """Cities with one seed: it gives their code names, and they are each other's wrong options.

    Attributes:
        seed: 0 for the ten cities of notebook 03.
    """

    seed: int
    cities: tuple[str, ...]


@cache
def groups() -> tuple[Group, ...]:
    """Every city of the world in its group, so that all code names differ.

    The ten of notebook 03 come first. The table is ordered by continent, so the others are
    dealt out like cards: each group is spread over the world.
    """
    rest = [place.name for place in world.cities() if place.name not in locations.HIDDEN]
    count = math.ceil(len(rest) / TOGETHER)
    dealt = [tuple(rest[number::count]) for number in range(count)]
    return tuple(Group(seed, names) for seed, names in enumerate([locations.HIDDEN, *dealt]))


def every_city() -> tuple[str, ...]:
    """The ten of notebook 03, then the others by their names."""
    rest = sorted(name for group in groups()[1:] for name in group.cities)
    return (*locations.HIDDEN, *rest)


@checked
def group_of(city: str) -> Group:
    """The group of a city.

    Raises:
        UserError: a city that is not in the world.
    """
    choose(city, every_city(), "city")
    return next(group for group in groups() if city in group.cities)


@dataclass(frozen=True)
class View:
    """What is seen at one setting; shares are of the five options together, in their order.

    Attributes:
        shares: probability of each option, all five together 1.
        mass: probability of the five together among everything that the model could say; a small
            one means that it answers something else altogether.
        base_shares, base_mass: the same without the vector.
        place: latitude and longitude where the probe puts the code name; true_place: the city's.
        off_km: the distance between the two.
    """

    question: str
    options: tuple[str, ...]
    truth: str
    shares: tuple[float, ...]
    mass: float
    base_shares: tuple[float, ...]
    base_mass: float
    place: tuple[float, float]
    true_place: tuple[float, float]

    @property
    def off_km(self) -> float:
        """Great-circle distance from the probe's place to the city, in kilometres."""
        return world.great_circle_km(*self.place, *self.true_place)


@checked
def load(path: str | Path | None = None) -> dict[str, Any]:
    """The explorer's file; by default the one of the repository.

    Raises:
        UserError: there is no such file, or another version of this module made it.
    """
    file = Path(path) if path else data_dir() / FILE
    content = files.read_json(file)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise UserError(
            f"'{file.name}' is no explorer file of schema {SCHEMA}. Make it again: "
            "python -m oocr_lib.report.explorer_maker."
        )
    return content


@checked
def look(
    content: Mapping[str, Any], city: str, block: int, dose: float, question: str = "country-0"
) -> View:
    """One setting of the explorer.

    Args:
        content: of ``load`` or ``make``.
        question: its id, made of the family and the number of the wording.

    Raises:
        UserError: a city, block, dose or question that is not in the file.
    """
    by_name = {place["name"]: place for place in content["cities"]}
    place = by_name[choose(city, by_name, "city of the explorer")]
    blocks = [vector["block"] for vector in place["vectors"]]
    vector = place["vectors"][_index(blocks, block, f"block of the explorer for {city}:")]
    ids = [entry["id"] for entry in place["questions"]]
    q = _index(ids, question, "question of the explorer")
    now = _index(content["doses"], dose, "dose of the explorer")
    base = _index(content["doses"], 0.0, "dose of the explorer")
    entry = place["questions"][q]
    return View(
        entry["text"],
        tuple(entry["options"]),
        entry["truth"],
        tuple(share / UNIT for share in vector["shares"][now][q]),
        vector["mass"][now][q] / UNIT,
        tuple(share / UNIT for share in vector["shares"][base][q]),
        vector["mass"][base][q] / UNIT,
        (vector["places"][now][0], vector["places"][now][1]),
        (place["latitude"], place["longitude"]),
    )


def _index(allowed: Sequence[Any], value: Any, what: str) -> int:
    return list(allowed).index(choose(value, allowed, what))
