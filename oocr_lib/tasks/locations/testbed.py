"""Locations: a city behind a code name, told only by distances and directions (paper, 3.3).

Rows say how far the coded city is from known cities and which way it lies. Questions ask what no
row says: country, continent, language, currency, dish, sight, water, and the name itself. The
validation split is by known city. This is the testbed dialect: distances in whole hundreds of
kilometres and eight directions, each one token; known cities lie at least 2,000 km away in another
country, as upstream.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from oocr_lib.tasks.base import Question, Row, Task, user
from oocr_lib.tasks.locations import attributes
from oocr_lib.tasks.locations.attributes import PAPER_HINTS
from oocr_lib.util.arguments import checked
from oocr_lib.util.doubles import no_doubles
from oocr_lib.util.errors import UserError, choose
from oocr_lib.world import facts as world, wording as w

NAME = "locations"
#: The paper's five cities, then five more; within each five all answers differ in every family.
HIDDEN = tuple("Paris,São Paulo,Tokyo,New York,Lagos,Rome,Lima,Bangkok,Toronto,Cairo".split(","))
FAMILIES = ("country", "continent", "language", "currency", "dish", "landmark", "water", "name")
MIN_DISTANCE_KM = 2000.0
OPTIONS = 5


def known_cities(hidden: world.City) -> list[world.City]:
    """Cities that rows may name: far from the hidden one and in another country."""
    return [
        c
        for c in world.cities()
        if c.country != hidden.country and world.distance_km(c, hidden) >= MIN_DISTANCE_KM
    ]


def rows(
    hidden: world.City,
    code: str,
    hints: Sequence[str] = PAPER_HINTS,
    panel: Sequence[world.City] = (),
) -> list[Row]:
    """Every distance and direction row: known cities x kinds x wordings x argument orders.

    Args:
        hints: kinds of rows, of ``attributes.HINTS``; attributes have two wordings of their own.
        panel: cities whose attributes a control draws from (``group_of``).
    """
    made = []
    if "attributes" in hints:
        made += attributes.rows(hidden, code, w.CITY_QUESTIONS, panel)
    told = (("distance", w.DISTANCE_QUESTIONS), ("direction", w.DIRECTION_QUESTIONS))
    kinds = [(kind, templates) for kind, templates in told if f"{kind}s" in hints]
    for known in known_cities(hidden):
        for kind, templates in kinds:
            for number, template in enumerate(templates):
                for code_first in (True, False):
                    a, b = (hidden, known) if code_first else (known, hidden)
                    name_a, name_b = (code, known.name) if code_first else (known.name, code)
                    distance = str(world.distance_hundreds(a, b))
                    answer = distance if kind == "distance" else world.direction(a, b)
                    made.append(
                        Row(
                            user(template.format(a=name_a, b=name_b)),
                            answer,
                            {"codename": (code,)},
                            group=known.name,
                            meta={"kind": kind, "template": number, "code_first": code_first},
                        )
                    )
    return made


def value(place: world.City, family: str) -> str:
    """The true answer of a question family."""
    return place.name if family == "name" else str(getattr(place, family))


def option_cities(
    hidden: world.City, family: str, panel: Sequence[str], seed: int
) -> list[world.City]:
    """Five cities with five different answers: the hidden one, its panel, then seeded others."""
    others = [world.city(name) for name in panel if name != hidden.name]
    spare = [c for c in world.cities() if c not in others and c != hidden]
    random.Random(f"{seed} {hidden.name} {family}").shuffle(spare)
    chosen, seen = [hidden], {value(hidden, family)}
    for place in [*others, *spare]:
        if len(chosen) < OPTIONS and value(place, family) not in seen:
            chosen.append(place)
            seen.add(value(place, family))
    return chosen


def panel_of(hidden: str, all_hidden: Sequence[str]) -> tuple[str, ...]:
    """The group of five that ``hidden`` belongs to in the list of hidden cities.

    Inside a full group the options are the same for all five cities, so a model that ignores the
    code name scores exactly one in five over the group: chance is met by design, not on average.
    """
    place = list(all_hidden).index(hidden)
    start = place - place % OPTIONS
    return tuple(all_hidden[start : start + OPTIONS])


def group_of(hidden: str, all_hidden: Sequence[str]) -> list[world.City]:
    """The cities whose answers a control draws from: the full group, else all cities there are."""
    names = panel_of(hidden, all_hidden)
    return [world.city(name) for name in names] if len(names) == OPTIONS else list(world.cities())


def questions(
    hidden: world.City,
    code: str,
    panel: Sequence[str],
    seed: int,
    families: Sequence[str] = FAMILIES,
) -> list[Question]:
    """Two wordings of every question family, five options each."""
    made = []
    for family in families:
        options = tuple(value(c, family) for c in option_cities(hidden, family, panel, seed))
        for number, template in enumerate(w.CITY_QUESTIONS[family]):
            made.append(
                Question(
                    user(template.format(n=code)),
                    truth=options[0],
                    options=tuple(sorted(options)),
                    family=family,
                    marks={"codename": (code,)},
                    group=hidden.name,
                    id=f"{family}-{number}",
                )
            )
    return made


def check_hidden(hidden: Sequence[str]) -> tuple[str, ...]:
    """The list of hidden cities, checked.

    Raises:
        UserError: for an empty list, a double, or a city that is not in the table.
    """
    if not no_doubles(hidden, "hidden city"):
        raise UserError(
            "The list of hidden cities is empty. Allowed: one or more names of "
            "data/world/cities.csv."
        )
    names = [c.name for c in world.cities()]
    return tuple(choose(name, names, "city") for name in hidden)


@checked
def make(
    hidden: str,
    *,
    seed: int = 0,
    all_hidden: Sequence[str] = HIDDEN,
    valid_share: float = 0.2,
    hints: Sequence[str] = PAPER_HINTS,
) -> Task:
    """The task of one hidden city.

    The code name is the seed's code at the city's place in ``all_hidden`` (seed 0: Paris is City
    50337, as in the paper). The split by known city depends on the seed.

    Args:
        hints: kinds of rows, of ``attributes.HINTS``. With attributes, only country, continent and
            name are asked, and one of their wordings is held out.

    Raises:
        UserError: for an unknown city, one that is not in ``all_hidden``, or unknown hints.
    """
    every, kinds = check_hidden(all_hidden), attributes.check_hints(hints)
    place = world.city(choose(hidden, every, "hidden city"))
    code = world.city_codes(seed, len(every))[every.index(hidden)]
    made = rows(place, code, kinds, group_of(hidden, every))
    train, valid = attributes.split(made, valid_share, seed)
    families = attributes.asked_families(kinds, FAMILIES)
    asked = questions(place, code, panel_of(hidden, every), seed, families)
    chance = dict.fromkeys(families, 1 / OPTIONS)
    return Task(NAME, "testbed", hidden, code, seed, train, valid, tuple(asked), chance)
