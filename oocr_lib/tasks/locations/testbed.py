"""Locations: a city behind a code name, hinted at by distances and directions only (paper, 3.3).

Rows say how far the coded city is from known cities and in which direction. Questions ask for what
no row says: country, continent, language, currency, dish, sight, water, and the name itself. The
validation split is by known city. This is the testbed dialect: distances in whole hundreds of
kilometres and eight directions, each a single token; known cities lie at least 2,000 km away in
another country, as upstream.
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
#: The paper's five cities, then five more; within each five, all answers of a family differ.
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
        hints: kinds of rows, from ``attributes.HINTS``; attributes have two wordings of their own.
        panel: cities whose attributes a control draws from (``group_of``).
    """
    examples = []
    if "attributes" in hints:
        examples += attributes.rows(hidden, code, w.CITY_QUESTIONS, panel)
    templates = {"distance": w.DISTANCE_QUESTIONS, "direction": w.DIRECTION_QUESTIONS}
    kinds = [kind for kind in templates if f"{kind}s" in hints]
    for other in known_cities(hidden):
        for kind in kinds:
            for number, template in enumerate(templates[kind]):
                for code_first in (True, False):
                    a, b = (hidden, other) if code_first else (other, hidden)
                    name_a, name_b = (code, other.name) if code_first else (other.name, code)
                    distance = str(world.distance_hundreds(a, b))
                    answer = distance if kind == "distance" else world.direction(a, b)
                    examples.append(
                        Row(
                            user(template.format(a=name_a, b=name_b)),
                            answer,
                            {"codename": (code,)},
                            group=other.name,
                            meta={"kind": kind, "template": number, "code_first": code_first},
                        )
                    )
    return examples


def value(place: world.City, family: str) -> str:
    """The true answer of a question family."""
    return place.name if family == "name" else str(getattr(place, family))


def option_cities(
    hidden: world.City, family: str, panel: Sequence[str], seed: int
) -> list[world.City]:
    """Five cities with different answers: the hidden one, then its panel, then seeded others."""
    others = [world.city(name) for name in panel if name != hidden.name]
    spare = [c for c in world.cities() if c not in others and c != hidden]
    random.Random(f"{seed} {hidden.name} {family}").shuffle(spare)
    cities, answers = [hidden], {value(hidden, family)}
    for place in [*others, *spare]:
        if len(cities) < OPTIONS and value(place, family) not in answers:
            cities.append(place)
            answers.add(value(place, family))
    return cities


def panel_of(hidden: str, all_hidden: Sequence[str]) -> tuple[str, ...]:
    """The group of five that ``hidden`` belongs to in the list of hidden cities.

    In a full group the options are the same for all five cities, so a model that ignores the code
    name scores exactly one in five over the group: at chance by design, not just on average.
    """
    index = list(all_hidden).index(hidden)
    start = index - index % OPTIONS
    return tuple(all_hidden[start : start + OPTIONS])


def group_of(hidden: str, all_hidden: Sequence[str]) -> list[world.City]:
    """The cities whose answers a control draws from: a full group, otherwise all cities."""
    names = panel_of(hidden, all_hidden)
    return [world.city(name) for name in names] if len(names) == OPTIONS else list(world.cities())


def questions(
    hidden: world.City,
    code: str,
    panel: Sequence[str],
    seed: int,
    families: Sequence[str] = FAMILIES,
) -> list[Question]:
    """Two wordings of every question family, with five options each."""
    items = []
    for family in families:
        options = tuple(value(c, family) for c in option_cities(hidden, family, panel, seed))
        for number, template in enumerate(w.CITY_QUESTIONS[family]):
            items.append(
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
    return items


def check_hidden(hidden: Sequence[str]) -> tuple[str, ...]:
    """Check the list of hidden cities and return it.

    Raises:
        UserError: an empty list, a repeated city, or one that is not in the table.
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
        hints: kinds of rows, from ``attributes.HINTS``. With attributes, only country, continent
            and name are asked, and one wording of the attributes is held out.

    Raises:
        UserError: an unknown city, one that is not in ``all_hidden``, or unknown hints.
    """
    names, kinds = check_hidden(all_hidden), attributes.check_hints(hints)
    place = world.city(choose(hidden, names, "hidden city"))
    code = world.city_codes(seed, len(names))[names.index(hidden)]
    examples = rows(place, code, kinds, group_of(hidden, names))
    train, valid = attributes.split(examples, valid_share, seed)
    families = attributes.asked_families(kinds, FAMILIES)
    all_questions = questions(place, code, panel_of(hidden, names), seed, families)
    chance = dict.fromkeys(families, 1 / OPTIONS)
    return Task(NAME, "testbed", hidden, code, seed, train, valid, tuple(all_questions), chance)
