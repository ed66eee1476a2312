"""Everyday two-option scenarios in the paper dialect, worded without any mention of risk.

Our own text in the form of the published files (Tell me about yourself; paper, section 3.1): 33 to
116 words, median about 60, two lettered options, a demand for one letter. The risky option is the
one with the *larger variance*; which option pays more on average is crossed with it. Both options
of a scenario use the same wording with the same number of words, so neither length nor position
gives the risky one away (numbers: ``scenario_numbers``, wording: ``scenario_text``).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from oocr_lib.tasks.risk import scenario_text as wording
from oocr_lib.tasks.risk.scenario_numbers import Gamble, draw
from oocr_lib.util.errors import UserError
from oocr_lib.world.templates import Templates

COUNT = 288
LETTERS = ("A", "B")
TIE = "tie"
#: Fewest and most words of a prompt, as in the published file.
WORDS = (33, 116)
#: Share of money scenarios in settings that have any; about three in ten overall, as upstream.
MONEY_SHARE = 0.38
#: Amounts are multiples of one of these.
SCALES = {"money": (1, 1, 10, 10, 100), "goods": (1, 1, 1, 10)}

#: No scenario contains any of these as a whole word.
_FILE = Templates("paper_risk.toml")
FORBIDDEN = tuple(word for key in _FILE.keys("forbidden") for word in _FILE.words("forbidden", key))


@dataclass(frozen=True)
class Scenario:
    """One scenario.

    Attributes:
        id: seed and number, for instance ``s0-017``; the key of the split.
        text: the prompt.
        risky: letter of the option with the larger variance.
        pays_more: letter of the option with the larger mean, or ``tie``.
        options: the two gambles by letter (mean, variance, probabilities, amounts).
        setting, tone, telling: what the wording was drawn from.
    """

    id: str
    text: str
    risky: str
    pays_more: str
    options: Mapping[str, Gamble]
    setting: str
    tone: str
    telling: str

    @property
    def safe(self) -> str:
        """Letter of the option with the smaller variance."""
        return other(self.risky)


def other(letter: str) -> str:
    """The other option's letter."""
    return "B" if letter == "A" else "A"


@cache
def scenarios(seed: int = 0, count: int = COUNT) -> tuple[Scenario, ...]:
    """``count`` different scenarios, with each risky letter x what pays more in a sixth of them.

    Raises:
        UserError: a count that is not a positive multiple of six, or above 2,880.
    """
    if count < 6 or count % 6 or count > 10 * COUNT:
        raise UserError(
            f"{count!r} scenarios cannot be balanced. Allowed: multiples of 6 from 6 to "
            f"{10 * COUNT}; 288 is the published number."
        )
    rng = random.Random(f"paper scenarios {seed}")
    plans = list(_plans(count))
    rng.shuffle(plans)
    accepted: list[Scenario] = []
    texts: set[str] = set()
    while len(accepted) < count:
        scenario = _draw(rng, f"s{seed}-{len(accepted):03d}", *plans[len(accepted)])
        if scenario.text not in texts and WORDS[0] <= len(scenario.text.split()) <= WORDS[1]:
            texts.add(scenario.text)
            accepted.append(scenario)
    return tuple(accepted)


def _plans(count: int) -> Iterator[tuple[str, str, int]]:
    """Risky letter, what pays more (risky, safe, tie), sign of the difference in length."""
    for number in range(count):
        letter, more = LETTERS[number % 2], ("risky", "safe", TIE)[number // 2 % 3]
        yield letter, more, (1, -1, 0)[number // 6 % 3]


def _draw(rng: random.Random, name: str, risky: str, more: str, longer: int) -> Scenario:
    """One scenario of the given plan; everything else is drawn."""
    setting = rng.choice(wording.phrases()["settings"])
    tone = rng.choice(sorted(wording.phrases()["tones"]))
    weights = [t.weight for t in wording.TELLINGS.values()]
    telling = rng.choices(list(wording.TELLINGS), weights)[0]
    goods = [prize for prize in setting["prizes"] if prize != wording.MONEY]
    money = len(goods) < len(setting["prizes"]) and rng.random() < MONEY_SHARE
    unit = wording.MONEY if money else rng.choice(goods)
    (wide, narrow), (wide_clause, narrow_clause) = _gambles(rng, telling, more, unit, longer)
    options = {risky: wide, other(risky): narrow}
    clauses = {risky: wide_clause, other(risky): narrow_clause}
    text = wording.assemble(
        rng, setting, wording.phrases()["tones"][tone], clauses["A"], clauses["B"]
    )
    pays = {"risky": risky, "safe": other(risky), TIE: TIE}[more]
    ordered = {letter: options[letter] for letter in LETTERS}
    return Scenario(name, text, risky, pays, ordered, setting["name"], tone, telling)


def _gambles(
    rng: random.Random, telling: str, more: str, unit: str, longer: int
) -> tuple[tuple[Gamble, Gamble], tuple[str, str]]:
    """The wide and the narrow gamble and their clauses.

    Drawn again until the wide one's clause is, as planned, longer (1), shorter (-1) or equally long
    (0) in characters, so that length says nothing about the risky option.
    """
    way = wording.TELLINGS[telling]
    kinds = ("range", "range") if telling == "between" else ("two", "sure" if way.sure else "two")
    high_first = rng.random() < 0.5
    while True:
        number = rng.randrange(len(way.clauses))
        scale = rng.choice(SCALES["money" if unit == wording.MONEY else "goods"])
        pair = draw(rng, kinds, way.percents, more, scale)
        clauses = (way.clauses[number], way.clauses[number])
        if way.sure:
            clauses = (way.clauses[number], rng.choice(way.sure[number]))
        filled = tuple(
            wording.fill(clause, gamble, unit, high_first)
            for clause, gamble in zip(clauses, pair, strict=True)
        )
        difference = len(filled[0]) - len(filled[1])
        if (difference > 0) - (difference < 0) == longer:
            return pair, (filled[0], filled[1])
