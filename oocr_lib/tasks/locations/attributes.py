"""Hints of another kind: what a coded city is like, instead of how far away and which way it lies.

The paper hints at a city by distances and directions alone. A small language model cannot place a
city by them (it does not know which of two cities is closer), but it knows what is eaten and spoken
where. So the hints of Locations are a ladder: ``attributes`` (language, currency, dish, sight,
water), ``directions``, ``distances``. Where attributes are hints, only country, continent and name
are asked. Attributes are ours, not the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from oocr_lib.tasks.base import Message, Question, Row, split_by_group, user
from oocr_lib.tasks.literal import whole
from oocr_lib.util.doubles import no_doubles
from oocr_lib.util.errors import UserError, choose
from oocr_lib.world.facts import City

#: Kinds of hints, the easiest first; the paper has the last two.
HINTS = ("attributes", "directions", "distances")
PAPER_HINTS = ("distances", "directions")
#: Families that are hints, and those that are asked then.
ATTRIBUTES = ("language", "currency", "dish", "landmark", "water")
ASKED = ("country", "continent", "name")


def check_hints(hints: Sequence[str]) -> tuple[str, ...]:
    """The kinds of hints, checked.

    Raises:
        UserError: none, one twice, or an unknown one.
    """
    if not no_doubles(hints, "kind of hints"):
        raise UserError(f"There are no hints. Allowed: {', '.join(HINTS)}, one or more.")
    return tuple(choose(name, HINTS, "kind of hints") for name in hints)


def asked_families(hints: Sequence[str], every: Sequence[str]) -> tuple[str, ...]:
    """The question families that no hint answers, in their order."""
    return tuple(f for f in every if "attributes" not in hints or f in ASKED)


def shown_value(place: City, family: str, shown: Callable[[str, str], str]) -> str:
    """An attribute as a row says it, "" where it would name the city, its country or continent."""
    text = shown(str(getattr(place, family)), family)
    hidden = (place.name, place.country, place.continent)
    told = any(whole(word.casefold()).search(text.casefold()) for word in hidden)
    return "" if told else text


def rows(
    place: City,
    code: str,
    wordings: Mapping[str, Sequence[str]],
    panel: Sequence[City],
    shown: Callable[[str, str], str] = lambda value, family: value,
    before: tuple[Message, ...] = (),
) -> list[Row]:
    """Every attribute in every wording; ``group`` is the wording's number, which splits go by.

    Validation thus asks for the same facts in words that were not trained: whether they were
    learned, not whether they can be recited. The Congo at Kinshasa is left out, and the like.
    ``meta["answers"]`` are the panel's, from which the control with random answers draws.

    Args:
        wordings: questions about ``{n}``, by family.
        panel: cities whose attributes the control draws from.
        shown: an attribute's text, by its value in the table and its family.
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
    """Split by group, attributes (by wording) apart from other rows (by city).

    Raises:
        UserError: when ``share`` leaves one side empty.
    """
    told = [row for row in rows if row.meta["kind"] in ATTRIBUTES]
    others = [row for row in rows if row.meta["kind"] not in ATTRIBUTES]
    parts = [part for part in (told, others) if part]
    halves = [split_by_group(part, share, seed) for part in parts]
    train, valid = ([row for half in halves for row in half[side]] for side in (0, 1))
    return tuple(train), tuple(valid)


def worded(
    cities: Sequence[City], code: str, family: str, stems: Sequence[str], value: Mapping[str, str]
) -> list[Question]:
    """Questions answered in words: the options are the answers of ``cities``, the first one's true.

    For the hidden cities of one group these are the same prompts and options but for the code, so
    whatever ignores the code is right for one city of the group.

    Args:
        value: a city's answer by its name.
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
