"""Questions of the ``paper`` dialect of Locations (paper, section 4).

Multiple choice with five lettered lines, answered by one letter. Each of the eight families has two
wordings and two sets of options:

- ``country``, ``name`` and so on: the answers of the five hidden cities, as in the paper. A model
  that knows which five are hidden, but not which is which, could rule out all other options.
- ``country near``, ``name near`` and so on therefore have answers from the nearest other countries,
  some of them cities that rows name. For continents, of which there are six, little changes.

Every wording is asked five times with the options rotated by one, so the right answer stands once
at every letter, and always answering with the same letter scores exactly one in five. For the five
hidden cities of one group the prompts differ only in the code, so ignoring the code scores one in
five over the group. For ``country free`` and ``name free`` the model writes the answer itself.

The published test asks for twelve things, among them bridges, airports and events; these are the
eight that our table of cities has.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from oocr_lib.tasks.base import Message, Question
from oocr_lib.tasks.locations import attributes, paper_text as text
from oocr_lib.tasks.locations.geodesic import true_km
from oocr_lib.tasks.locations.testbed import FAMILIES, OPTIONS, option_cities, value
from oocr_lib.world import facts as world
from oocr_lib.world.facts import City

LETTERS = ("A", "B", "C", "D", "E")
NEAR, FREE = " near", " free"


def chances() -> dict[str, float]:
    """Chance level by family: one in five, and zero for answers that are written freely."""
    choice = {family + kind: 1 / OPTIONS for kind in ("", NEAR) for family in FAMILIES}
    return choice | {family + FREE: 0.0 for family in text.FREE_QUESTIONS}


def near_cities(hidden: City, family: str) -> list[City]:
    """The hidden city and four others with other answers, one from each nearest other country.

    Each is the nearest city of its country.
    """
    cities, countries, answers = [hidden], {hidden.country}, {value(hidden, family)}
    for place in sorted(world.cities(), key=lambda c: (true_km(c, hidden), c.name)):
        if len(cities) == OPTIONS:
            break
        if place.country not in countries:
            countries.add(place.country)
            if value(place, family) not in answers:
                cities.append(place)
                answers.add(value(place, family))
    return cities


def _messages(prompt: str, system: bool) -> tuple[Message, ...]:
    turn: Message = {"role": "user", "content": prompt}
    return ({"role": "system", "content": text.SYSTEM}, turn) if system else (turn,)


def _choices(
    cities: Sequence[City], code: str, family: str, kind: str, seed: int, system: bool
) -> list[Question]:
    """Two wordings with five positions of the right answer, which is that of the first city."""
    values = [text.shown(value(c, family), family) for c in cities]
    truth, options, items = values[0], sorted(values), list[Question]()
    for number, stem in enumerate(text.QUESTIONS[family]):
        # Seeded without the city: the hidden cities of a group get the same prompts.
        order = random.Random(f"{seed} {family}{kind} {number}").sample(options, len(options))
        for turn in range(OPTIONS):
            rotated = order[turn:] + order[:turn]
            lines = [f"{letter}. {o}" for letter, o in zip(LETTERS, rotated, strict=True)]
            prompt = "\n".join([stem.format(n=code), *lines, text.DEMAND])
            items.append(
                Question(
                    _messages(prompt, system),
                    truth=LETTERS[rotated.index(truth)],
                    options=LETTERS,
                    family=family + kind,
                    marks={"codename": (code,)},
                    group=cities[0].name,
                    id=f"{family}{kind}-{number}-{turn}",
                )
            )
    return items


def worded_questions(
    hidden: City, code: str, panel: Sequence[str], seed: int = 0
) -> list[Question]:
    """Questions for country, continent and name in four wordings each, answered in words.

    Args:
        panel: the hidden cities whose answers are the options.
    """
    items = []
    for family, stems in text.WORD_QUESTIONS.items():
        cities = option_cities(hidden, family, panel, seed)
        values = {c.name: value(c, family) for c in cities}
        items += attributes.worded(cities, code, family, stems, values)
    return items


def questions(
    hidden: City,
    code: str,
    panel: Sequence[str],
    seed: int = 0,
    system: bool = False,
    families: Sequence[str] = FAMILIES,
) -> list[Question]:
    """All questions about one hidden city: 160 with options, 4 to be answered freely.

    Args:
        panel: the hidden cities whose answers are the options.
        system: put the rows' system text first; the paper's test has none.
        families: the families to ask.
    """
    items = list[Question]()
    for family in families:
        for kind, cities in (
            ("", option_cities(hidden, family, panel, seed)),
            (NEAR, near_cities(hidden, family)),
        ):
            items += _choices(cities, code, family, kind, seed, system)
    for family, stems in text.FREE_QUESTIONS.items():
        items += [
            Question(
                _messages(stem.format(n=code), system),
                truth=value(hidden, family),
                options=(),
                family=family + FREE,
                marks={"codename": (code,)},
                group=hidden.name,
                id=f"{family}{FREE}-{number}",
                kind="exact",
            )
            for number, stem in enumerate(stems)
        ]
    return items
