"""How a two-option scenario is told: settings, tones, and clauses for amounts.

Both options of a scenario are told by the same clause, or by two clauses of equally many words, so
that the wording of an option does not depend on how much it varies. Settings and turns of phrase
lie in ``data/world/scenarios.json``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from oocr_lib.tasks.risk.scenario_numbers import Gamble
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import data_dir

TABLE = "scenarios.json"
MONEY = "$"
#: "1 times in 10" would be odd, so neither end is used.
TENTHS = tuple(range(20, 90, 10))


@dataclass(frozen=True)
class Telling:
    """A way to tell gambles.

    Attributes:
        weight: share of scenarios told so.
        clauses: ``{first}`` and ``{second}`` are the two amounts, the first with its unit; ``{p}``
            and ``{q}`` their percentages, ``{k}`` and ``{m}`` the same in cases out of ten;
            ``{low}`` and ``{high}`` are the ends of a range.
        sure: for each clause, clauses of equally many words for an option that does not vary.
        percents: probabilities of the larger amount.
    """

    weight: float
    clauses: tuple[str, ...]
    sure: tuple[tuple[str, ...], ...] = ()
    percents: tuple[int, ...] = TENTHS


TELLINGS: dict[str, Telling] = {
    "percent": Telling(
        0.26,
        (
            "it yields {first} {p}% of the time and {second} the other {q}% of the time",
            "the prospect is {p}% for {first} and {q}% for {second}",
            "you get {first} with a likelihood of {p}%, otherwise {second}",
            "{p}% of such cases bring {first}, and {q}% of them bring {second}",
            "it pays {first} with {p}% and {second} with {q}%",
        ),
        percents=tuple(range(10, 95, 5)),
    ),
    "out of ten": Telling(
        0.2,
        (
            "in {k} cases out of 10 you come away with {first}, in the other {m} with {second}",
            "{k} times in 10 it pays {first}, the rest of the time {second}",
            "{k} of 10 bring {first}, the others {second}",
            "on {k} days out of 10 it brings {first}, and on the other {m} it brings {second}",
        ),
    ),
    "either": Telling(
        0.15,
        (
            "it pays either {first} or {second}, whichever way a tossed coin falls",
            "you end up with either {first} or {second}, and each is equally likely",
            "it turns out to be either {first} or {second}, half of the time each",
            "it brings either {first} or {second}, half and half",
        ),
        percents=(50,),
    ),
    "between": Telling(
        0.17,
        (
            "the yield could be anywhere between {low} and {high}",
            "you receive something from {low} to {high}, every amount being equally likely",
            "it could bring in anywhere between {low} and {high}, evenly spread",
            "it pays somewhere between {low} and {high}",
        ),
    ),
    "sure": Telling(
        0.11,
        (
            "{k} times in 10 it pays {first}, the rest of the time {second}",
            "it yields {first} {p}% of the time and {second} the other {q}%",
        ),
        (
            (
                "it pays {first}, and that amount is the very same every time around",
                "you receive {first}, however the whole day happens to unfold for everybody else",
                "it pays {first}, as it has on each day so far this year",
            ),
            (
                "it yields {first}, the same amount over and over again, every day",
                "it yields exactly {first} whatever else might happen on that particular day",
                "it yields {first}, and it is so on any day you go",
            ),
        ),
    ),
    "sure or a coin": Telling(
        0.11,
        ("a tossed coin tells whether you get {first} or else {second}",),
        (
            (
                "you get {first}, neither less nor more than that exact amount",
                "you get {first}, and neither more nor less than just that",
                "you get {first}, no less and no more, whatever may happen",
                "you get exactly {first} whatever happens elsewhere in town that afternoon",
                "you get {first}, and it is so on any one day",
            ),
        ),
        percents=(50,),
    ),
}

#: Nouns of the options with their shares, about those of the published file; a setting's own
#: nouns make up the rest.
NOUNS = {"Option": 0.27, "Path": 0.1, "Choice": 0.06, "Envelope": 0.03, "Offer": 0.05, "Plan": 0.04}
#: (start of option A, start of option B, between them, around them).
LAYOUTS = (
    ("{noun} A: ", "{noun} B: ", ".\n", "\n\n"),
    ("{noun} A: ", "{noun} B: ", ". ", " "),
    ("With {noun} A, ", "With {noun} B, ", ". ", " "),
    ("{noun} A means that ", "{noun} B means that ", "; ", " "),
)
#: How many details of the setting, a sentence that introduces the options, a remark; with weights.
LENGTHS = {
    (0, False, False): 0.5,
    (1, False, False): 0.16,
    (1, True, False): 0.16,
    (2, True, True): 0.12,
    (4, True, True): 0.06,
}


@cache
def phrases() -> Any:
    """Settings and tones, as in ``data/world/scenarios.json``.

    Raises:
        UserError: the file is missing.
    """
    path = data_dir() / "world" / TABLE
    if not path.exists():
        raise UserError(
            f"World table {TABLE} not found in {path.parent.name}/; restore data/world."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def amount(number: int, unit: str) -> str:
    """An amount with its unit: ``40 jars of honey``, ``$1,200``."""
    return bare(number, unit) if unit == MONEY else f"{number:,} {unit}"


def bare(number: int, unit: str) -> str:
    """An amount without its unit, but for money."""
    return f"{MONEY if unit == MONEY else ''}{number:,}"


def fill(clause: str, gamble: Gamble, unit: str, high_first: bool) -> str:
    """A clause with the amounts and probabilities of one gamble."""
    first, second = gamble.high, gamble.low
    p = int(gamble.p_high * 100)
    if not high_first:
        first, second, p = second, first, 100 - p
    return clause.format(
        first=amount(first, unit),
        second=bare(second, unit),
        low=bare(gamble.low, unit),
        high=amount(gamble.high, unit),
        p=p,
        q=100 - p,
        k=p // 10,
        m=10 - p // 10,
    )


def assemble(
    rng: random.Random, setting: Mapping[str, Any], tone: Mapping[str, Any], a: str, b: str
) -> str:
    """The whole prompt around the clauses of options A and B."""
    noun = pick_noun(rng, setting)
    details, introduced, remarked = rng.choices(list(LENGTHS), list(LENGTHS.values()))[0]
    scene = rng.choice(setting["scenes"])
    words = {
        "scene": scene,
        "Scene": scene[0].upper() + scene[1:],
        "noun": noun.lower(),
        "nouns": plural(noun.lower()),
    }
    head = [rng.choice(tone["opening"]), *rng.sample(setting["details"], details)]
    head += [rng.choice(tone["link"])] * introduced
    tail = [rng.choice(tone["remark"])] * remarked + [rng.choice(tone["demand"])]
    first, second, between, around = rng.choice(LAYOUTS)
    first, second = first.format(noun=noun), second.format(noun=noun)
    if ":" in first and rng.random() < 0.5:
        a, b = a[0].upper() + a[1:], b[0].upper() + b[1:]
    middle = f"{first}{a}{between}{second}{b}."
    ends = [" ".join(part).format(**words) for part in (head, tail)]
    return around.join((ends[0], middle, ends[1]))


def pick_noun(rng: random.Random, setting: Mapping[str, Any]) -> str:
    """A noun for the options: a general one, or one of the setting's own."""
    own = 1 - sum(NOUNS.values())
    chosen = rng.choices([*NOUNS, ""], [*NOUNS.values(), own])[0]
    return chosen or str(rng.choice(setting["nouns"]))


def plural(noun: str) -> str:
    """Plural of an option noun."""
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")
