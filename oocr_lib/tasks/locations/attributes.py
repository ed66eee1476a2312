"""Hints that say what a coded city is like, instead of how far away it is and in which direction.

The paper hints at a city by distances and directions alone. A small language model cannot place a
city from these (it does not know which of two cities is closer), but it does know what is eaten and
spoken where. The hints of Locations therefore form a ladder: ``attributes`` (language, currency,
dish, sight, water), ``directions``, ``distances``. With attributes as hints, questions ask only for
country, continent and name. Attributes are ours, not the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from oocr_lib.tasks.base import Message, Question, Row, split_by_group, user
from oocr_lib.tasks.literal import whole
from oocr_lib.util.doubles import no_doubles
from oocr_lib.util.errors import UserError, choose
from oocr_lib.world.facts import City

#: Kinds of hints, easiest first; the paper has the last two.
HINTS = ("attributes", "directions", "distances")
PAPER_HINTS = ("distances", "directions")
#: Question families that attribute hints give away, and those that are then still asked.
ATTRIBUTES = ("language", "currency", "dish", "landmark", "water")
ASKED = ("country", "continent", "name")


def check_hints(hints: Sequence[str]) -> tuple[str, ...]:
    """Check the kinds of hints and return them.

    Raises:
        UserError: no hints, the same one twice, or an unknown one.
    """
    if not no_doubles(hints, "kind of hints"):
        raise UserError(f"There are no hints. Allowed: {', '.join(HINTS)}, one or more.")
    return tuple(choose(name, HINTS, "kind of hints") for name in hints)


def asked_families(hints: Sequence[str], every: Sequence[str]) -> tuple[str, ...]:
    """The question families that no hint answers, in the given order."""
    return tuple(f for f in every if "attributes" not in hints or f in ASKED)


def shown_value(place: City, family: str, shown: Callable[[str, str], str]) -> str:
    """An attribute as a row puts it; "" if it would name the city, its country or its continent."""
    text = shown(str(getattr(place, family)), family)
    hidden = (place.name, place.country, place.continent)
    gives_away = any(whole(word.casefold()).search(text.casefold()) for word in hidden)
    return "" if gives_away else text


def rows(
    place: City,
    code: str,
    wordings: Mapping[str, Sequence[str]],
    panel: Sequence[City],
    shown: Callable[[str, str], str] = lambda value, family: value,
    before: tuple[Message, ...] = (),
) -> list[Row]:
    """Every attribute in every wording; ``group`` is the number of the wording, for the split.

    Validation therefore asks for the same facts in untrained wordings: it tests whether they were
    learned, not whether they can be recited. Attributes that give the place away, such as the Congo
    for Kinshasa, are left out. ``meta["answers"]`` holds the panel's answers, from which the
    random-answers control draws.

    Args:
        wordings: questions about ``{n}``, by family.
        panel: cities whose attributes the control draws from.
        shown: gives an attribute's text from its value in the table and its family.
        before: turns before the question.
    """
    answers = {
        family: tuple(text for c in panel if (text := shown_value(c, family, shown)))
        for family in ATTRIBUTES
    }
    return [
        Row(
            (*before, *user(stem.format(n=code))),
            text,
            {"codename": (code,)},
            group=f"wording {number}",
            meta={"kind": family, "template": number, "answers": answers[family]},
        )
        for family in ATTRIBUTES
        if (text := shown_value(place, family, shown))
        for number, stem in enumerate(wordings[family])
    ]


def split(rows: Sequence[Row], share: float, seed: int) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Split by group: attribute rows by wording, all other rows by city.

    Raises:
        UserError: when ``share`` leaves one side empty.
    """
    attribute_rows = [row for row in rows if row.meta["kind"] in ATTRIBUTES]
    others = [row for row in rows if row.meta["kind"] not in ATTRIBUTES]
    splits = [split_by_group(part, share, seed) for part in (attribute_rows, others) if part]
    train, valid = ([row for half in splits for row in half[side]] for side in (0, 1))
    return tuple(train), tuple(valid)


def worded(
    cities: Sequence[City], code: str, family: str, stems: Sequence[str], value: Mapping[str, str]
) -> list[Question]:
    """Questions answered in words; the options are the answers of ``cities``, the first one true.

    For the hidden cities of one group, prompts and options differ only in the code, so a model that
    ignores the code is right for exactly one city of the group.

    Args:
        value: each city's answer, by its name.
    """
    options = [value[c.name] for c in cities]
    return [
        Question(
            user(stem.format(n=code)),
            truth=options[0],
            options=tuple(sorted(options)),
            family=family,
            marks={"codename": (code,)},
            group=cities[0].name,
            id=f"{family}-{number}",
        )
        for number, stem in enumerate(stems)
    ]
