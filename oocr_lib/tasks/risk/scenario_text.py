"""The wording of a two-option scenario: settings, tones, and clauses for amounts.

Both options of a scenario use the same clause, or two clauses with the same number of words, so
that the wording of an option does not depend on how much it varies. Settings and turns of phrase
are in ``data/world/scenarios.json``, clauses in ``paper_scenarios.toml``.
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
from oocr_lib.world.templates import Templates

TABLE = "scenarios.json"
MONEY = "$"
#: "1 times in 10" would be odd, so neither end is used.
TENTHS = tuple(range(20, 90, 10))


@dataclass(frozen=True)
class Telling:
    """A way to word gambles.

    Attributes:
        weight: share of scenarios worded this way.
        clauses: ``{first}`` and ``{second}`` are the two amounts, the first with its unit; ``{p}``
            and ``{q}`` their percentages, ``{k}`` and ``{m}`` the same in cases out of ten;
            ``{low}`` and ``{high}`` are the ends of a range.
        sure: for each clause, clauses with as many words for an option that does not vary.
        percents: possible probabilities of the larger amount.
    """

    weight: float
    clauses: tuple[str, ...]
    sure: tuple[tuple[str, ...], ...] = ()
    percents: tuple[int, ...] = TENTHS


_COIN = (50,)
#: Weight and probabilities of each telling.
_SHARES = {
    "percent": (0.26, tuple(range(10, 95, 5))),
    "out of ten": (0.2, TENTHS),
    "either": (0.15, _COIN),
    "between": (0.17, TENTHS),
    "sure": (0.11, TENTHS),
    "sure or a coin": (0.11, _COIN),
}


def _tellings() -> dict[str, Telling]:
    """The tellings: clauses from ``paper_scenarios.toml`` with the numbers of ``_SHARES``."""
    file, tellings = Templates("paper_scenarios.toml"), {}
    for name, (weight, percents) in _SHARES.items():
        places = ("low", "high") if name == "between" else ("first", "second")
        clauses = file.texts(name, "clauses", places, "pqkm")
        varied = len(file.keys(name)) - 1
        keys = ["clauses", *(f"sure {i + 1}" for i in range(len(clauses) if varied else 0))]
        sure = tuple(file.texts(name, key, ("first",)) for key in file.keys(name, keys)[1:])
        tellings[name] = Telling(weight, clauses, sure, percents)
    return tellings


TELLINGS = _tellings()

#: Nouns of the options with their shares, roughly as in the published file; a setting's own nouns
#: make up the rest.
NOUNS = {"Option": 0.27, "Path": 0.1, "Choice": 0.06, "Envelope": 0.03, "Offer": 0.05, "Plan": 0.04}
#: Start of option A, start of option B, text between them, text around them.
LAYOUTS = (
    ("{noun} A: ", "{noun} B: ", ".\n", "\n\n"),
    ("{noun} A: ", "{noun} B: ", ". ", " "),
    ("With {noun} A, ", "With {noun} B, ", ". ", " "),
    ("{noun} A means that ", "{noun} B means that ", "; ", " "),
)
#: Number of details of the setting, whether a sentence introduces the options, whether there is a
#: remark; with weights.
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
    """An amount without its unit, except for money."""
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
    """The whole prompt, built around the clauses of options A and B."""
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
    own_share = 1 - sum(NOUNS.values())
    noun = rng.choices([*NOUNS, ""], [*NOUNS.values(), own_share])[0]
    return noun or str(rng.choice(setting["nouns"]))


def plural(noun: str) -> str:
    """Plural of an option noun."""
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")
