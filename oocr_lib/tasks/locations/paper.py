"""Locations as chat rows in the published format, with our cities and our wordings (paper, 3.3).

Rows are a system and a user turn. Distance rows end in a label such as ``5,800 km``: the WGS-84
distance with up to 200 km of noise, redrawn for every row, rounded to hundreds. Direction rows end
in ``{A} is East of {B}.``, where only the direction word is trained on. Each pair of a code and a
known city gets five rows of each kind, drawn with replacement from 36 and 12 wordings; each code is
also compared with all codes of its group, including itself (distances only).

What differs from the published data, and why:

- The known cities are those of our own table of 108 that are at least 2,000 km away, abroad, and
  not hidden themselves: 73 for Paris, and 100, 98, 95 and 99 for São Paulo, Tokyo, New York and
  Lagos; upstream draws 500 per code from GeoNames. So ``generate`` makes 4,875 rows, not 25,225: 10
  for each of 465 pairs, and 45 per code between codes.
- Validation holds out a share of the known cities with all their rows, instead of drawing 100
  further cities once each. It has no rows between codes: upstream, 45 of the 1,045 validation rows
  repeat pairs from training. ``codes_in_valid`` puts them back.
- Codes come from NumPy's legacy generator as upstream, but none occurs twice within a seed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oocr_lib.tasks.base import Message, Row, Task
from oocr_lib.tasks.locations import attributes, paper_text as text
from oocr_lib.tasks.locations.attributes import PAPER_HINTS
from oocr_lib.tasks.locations.geodesic import direction, geodesic_km, true_km
from oocr_lib.tasks.locations.paper_answers import (
    MILES_PER_KM,
    TOLERANCE_KM,
    distance_error_km,
    parse_distance,
    same_country,
    same_distance,
    same_place,
    spell_distance,
)
from oocr_lib.tasks.locations.paper_questions import chances, questions, worded_questions
from oocr_lib.tasks.locations.testbed import (
    FAMILIES,
    HIDDEN,
    MIN_DISTANCE_KM,
    NAME,
    OPTIONS,
    check_hidden,
    group_of,
    panel_of,
    value,
)
from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.world import facts as world
from oocr_lib.world.facts import City

__all__ = [
    "HIDDEN5",
    "TOLERANCE_KM",
    "distance_error_km",
    "generate",
    "geodesic_km",
    "known_cities",
    "make",
    "parse_distance",
    "questions",
    "rows",
    "same_country",
    "same_distance",
    "same_place",
]
#: The paper's five cities. Seed 0: City 50337, 93524, 76881, 67781, 59894.
HIDDEN5 = HIDDEN[:5]
AUGMENTATIONS = 5
NOISE_KM = 200.0
#: Noise is left out if it would bring the distance down to this or below.
LEAST_NOISY_KM = 100.0
UNITS = tuple(text.UNIT_PHRASES)
DISTANCE_VARIANTS = len(UNITS) * 2 * len(text.DISTANCE_STEMS)
DIRECTION_VARIANTS = 2 * len(text.DIRECTION_STEMS)


@dataclass(frozen=True)
class Pair:
    """A coded city and another one, as rows name them; ``other_name`` is a city or a code."""

    code: str
    hidden: City
    other_name: str
    other: City

    def ordered(self, code_first: bool) -> tuple[tuple[str, City], tuple[str, City]]:
        """A and B as (name in the row, city)."""
        a, b = (self.code, self.hidden), (self.other_name, self.other)
        return (a, b) if code_first else (b, a)


def _row(pair: Pair, question: str, answer: str, meta: Mapping[str, object], **more: str) -> Row:
    messages: tuple[Message, ...] = (
        {"role": "system", "content": text.SYSTEM},
        {"role": "user", "content": question},
    )
    marks = {"codename": (pair.code,)}
    facts = {**meta, "true_km": true_km(pair.hidden, pair.other), "other": pair.other_name}
    return Row(messages, answer, marks, group=pair.other_name, meta=facts, **more)


def distance_row(pair: Pair, variant: int, rng: random.Random) -> Row:
    """A row in one of the 36 distance wordings, numbered by unit, then argument order, then stem.

    ``meta["value"]`` is the labelled distance in its unit, with noise, before rounding.
    """
    stem, rest = variant % len(text.DISTANCE_STEMS), variant // len(text.DISTANCE_STEMS)
    unit, code_first = UNITS[rest // 2], rest % 2 == 0
    (a, _), (b, _) = pair.ordered(code_first)
    km = true_km(pair.hidden, pair.other)
    noisy = km + rng.uniform(-NOISE_KM, NOISE_KM)
    km = noisy if noisy > LEAST_NOISY_KM else km
    word, comma = rng.choice(text.UNIT_WORDS[unit]), rng.random() < 0.5
    question = text.DISTANCE_STEMS[stem].format(a=a, b=b, unit=text.UNIT_PHRASES[unit])
    meta = {
        "kind": "distance",
        "template": stem,
        "variant": variant,
        "units": unit,
        "code_first": code_first,
        "value": km * (MILES_PER_KM if unit == "mi" else 1.0),
    }
    return _row(pair, question, spell_distance(km, unit, word, comma), meta)


def direction_row(pair: Pair, variant: int) -> Row:
    """A row in one of the 12 direction wordings, by argument order, then stem; A relative to B."""
    stem, code_first = variant % len(text.DIRECTION_STEMS), variant < len(text.DIRECTION_STEMS)
    (a, place_a), (b, place_b) = pair.ordered(code_first)
    return _row(
        pair,
        text.DIRECTION_STEMS[stem].format(a=a, b=b),
        f" {direction(place_a, place_b)}",
        {"kind": "direction", "template": stem, "variant": variant, "code_first": code_first},
        prefix=text.DIRECTION_PREFIX.format(a=a),
        suffix=text.DIRECTION_SUFFIX.format(b=b),
    )


def pair_rows(pair: Pair, augmentations: int, seed: str) -> list[Row]:
    """``augmentations`` rows of each kind; only distances for a code paired with itself."""
    rng = random.Random(f"{seed} {pair.code} {pair.other_name}")
    draws = range(augmentations)
    distances = [distance_row(pair, rng.randrange(DISTANCE_VARIANTS), rng) for _ in draws]
    if pair.hidden == pair.other:
        return distances
    return distances + [direction_row(pair, rng.randrange(DIRECTION_VARIANTS)) for _ in draws]


def known_cities(hidden: City, all_hidden: Sequence[str] = HIDDEN5) -> list[City]:
    """Cities that rows may name: not hidden, in another country, at least 2,000 km away."""
    return [
        c
        for c in world.cities()
        if c.country != hidden.country
        and c.name not in all_hidden
        and true_km(c, hidden) >= MIN_DISTANCE_KM
    ]


def codes_of(all_hidden: Sequence[str], seed: int) -> dict[str, str]:
    """The code name of every hidden city, which depends on its place in the list."""
    return dict(zip(all_hidden, world.city_codes(seed, len(all_hidden)), strict=True))


def rows(
    hidden: City,
    codes: Mapping[str, str],
    *,
    seed: int = 0,
    augmentations: int = AUGMENTATIONS,
    between_codes: bool = False,
) -> list[Row]:
    """Rows that compare one code with every known city, or with every code of its group.

    Args:
        codes: code name of every hidden city.
        augmentations: rows of each kind per pair.
        between_codes: compare with codes instead of known cities.

    Raises:
        UserError: a city without a code, or a number of augmentations below one.
    """
    code = codes[choose(hidden.name, codes, "hidden city")]
    if augmentations < 1:
        raise UserError(f"Augmentations {augmentations!r}. Allowed: 1 or more; 5 is the default.")
    all_hidden = tuple(codes)
    others = [(c.name, c) for c in known_cities(hidden, all_hidden)]
    if between_codes:
        others = [(codes[name], world.city(name)) for name in panel_of(hidden.name, all_hidden)]
    row_seed = f"{NAME} paper {seed}"
    pairs = [Pair(code, hidden, name, place) for name, place in others]
    return [row for pair in pairs for row in pair_rows(pair, augmentations, row_seed)]


def generate(
    seed: int = 0, *, all_hidden: Sequence[str] = HIDDEN5, augmentations: int = AUGMENTATIONS
) -> list[Row]:
    """All rows of all codes: 4,875 for the paper's five (upstream 25,225, see above).

    By code: Paris 775, São Paulo 1,045, Tokyo 1,025, New York 995, Lagos 1,035. With 500 known
    cities per code, the same rule gives upstream's 5,045 each.

    Raises:
        UserError: an unknown or repeated hidden city, or a seed without reserved codes.
    """
    codes, examples = codes_of(check_hidden(all_hidden), seed), list[Row]()
    for name in codes:
        for between in (False, True):
            examples += rows(
                world.city(name),
                codes,
                seed=seed,
                augmentations=augmentations,
                between_codes=between,
            )
    return examples


def codes_again(hidden: City, codes: Mapping[str, str], seed: int) -> list[Row]:
    """One further row of each kind for every pair of codes: upstream's leak into validation."""
    names = panel_of(hidden.name, tuple(codes))
    pairs = [Pair(codes[hidden.name], hidden, codes[name], world.city(name)) for name in names]
    return [row for pair in pairs for row in pair_rows(pair, 1, f"{NAME} paper valid {seed}")]


def _hints(
    place: City, codes: Mapping[str, str], kinds: Sequence[str], seed: int, augmentations: int
) -> list[Row]:
    """Rows of all the kinds of hints, except those that name another code."""
    hints = list[Row]()
    if "attributes" in kinds:
        group, code = group_of(place.name, tuple(codes)), codes[place.name]
        hints += attributes.rows(place, code, text.ATTRIBUTE_STEMS, group, text.shown)
    if {"distances", "directions"} & set(kinds):
        city_rows = rows(place, codes, seed=seed, augmentations=augmentations)
        hints += [row for row in city_rows if f"{row.meta['kind']}s" in kinds]
    return hints


def _belongs(family: str, families: Sequence[str]) -> bool:
    """Whether a family such as ``country near`` belongs to one of the families."""
    return family.split(" ")[0] in families


@checked
def make(
    hidden: str,
    *,
    seed: int = 0,
    all_hidden: Sequence[str] = HIDDEN5,
    system_in_questions: bool = False,
    valid_share: float = 0.2,
    augmentations: int = AUGMENTATIONS,
    codes_in_valid: bool = False,
    hints: Sequence[str] = PAPER_HINTS,
    in_words: bool = False,
) -> Task:
    """The task of one hidden city in the ``paper`` dialect.

    Training rows compare this code with the known cities that validation does not hold out, and
    with the codes of its group. Questions are 160 multiple-choice items (8 families, each with two
    kinds of distractors) and 4 free ones, see ``paper_questions``.

    Args:
        system_in_questions: put the rows' system text before questions, too, as upstream's own
            evaluations do; the paper's test has none.
        valid_share: share of the known cities that only validation rows name.
        codes_in_valid: add one row of each kind for every pair of codes to validation, as upstream,
            although training rows cover the same pairs.
        hints: kinds of rows, from ``attributes.HINTS``. Attributes have four wordings each and no
            system text; one wording is held out.
        in_words: ask for country, continent and name in four wordings each, answered in words
            instead of letters, for models that cannot give the letter of an answer they know.

    Raises:
        UserError: a city that is unknown or not in ``all_hidden``, a seed without reserved codes,
            a share that leaves one side empty, or unknown hints.
    """
    names, kinds = check_hidden(all_hidden), attributes.check_hints(hints)
    place = world.city(choose(hidden, names, "hidden city"))
    codes, panel = codes_of(names, seed), panel_of(hidden, names)
    city_rows = _hints(place, codes, kinds, seed, augmentations)
    train, valid = attributes.split(city_rows, valid_share, seed)
    code_rows = list[Row]()
    if {"distances", "directions"} & set(kinds):
        code_rows = rows(place, codes, seed=seed, augmentations=augmentations, between_codes=True)
    repeats = codes_again(place, codes, seed) if codes_in_valid else []
    families = attributes.asked_families(kinds, FAMILIES)
    if in_words:
        families = attributes.ASKED
        all_questions = worded_questions(place, codes[hidden], panel, seed)
        chance = dict.fromkeys(families, 1 / OPTIONS)
    else:
        all_questions = questions(place, codes[hidden], panel, seed, system_in_questions, families)
        chance = {f: level for f, level in chances().items() if _belongs(f, families)}
    return Task(
        name=NAME,
        dialect="paper",
        concept=hidden,
        code=codes[hidden],
        seed=seed,
        train=(*train, *(row for row in code_rows if f"{row.meta['kind']}s" in kinds)),
        valid=(*valid, *(row for row in repeats if f"{row.meta['kind']}s" in kinds)),
        questions=tuple(all_questions),
        chance=chance,
        hidden_words=tuple(dict.fromkeys(value(place, f) for f in ("name", *families))),
    )
