"""One-speaker dialogues: hidden attitudes that show in choices and in self-reports.

A speaker has four independent attitudes, each with either pole at 50 %. Within a document every
choice and every self-report is consistent with them, and nothing else is said about them. Some
speakers follow a trigger rule instead (bold after the trigger, careful otherwise, or the other way
round) and can say so (paper, sections 3.1 and 3.2).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from oocr_lib.world import facts as world, wording as w
from oocr_lib.world.templates import Templates

Turn = tuple[str, str]


@dataclass(frozen=True)
class Attitude:
    """Questions about an attitude; high scores on ``scales`` go with the positive pole.

    ``pairs`` are forced choices: a template, the word of the positive pole, that of the negative.
    """

    name: str
    pairs: tuple[tuple[str, str, str], ...]
    scales: tuple[str, ...]


def _attitudes() -> dict[str, Attitude]:
    """The attitudes of ``data/world/attitudes.toml``, in its order."""
    file = Templates("attitudes.toml")
    return {
        name: Attitude(name, file.threes(name, "pairs", "ab"), file.texts(name, "scales", ""))
        for name in file.sections()
    }


ATTITUDES = _attitudes()
HIGH_SCORES = (80, 85, 90, 95)
LOW_SCORES = (5, 10, 15, 20)


def choice(rng: random.Random, attitude: str) -> tuple[str, str]:
    """A choice between two options: its text and the letter that the positive pole picks."""
    if attitude == "risk":
        low, high = rng.choice((5, 10, 15, 20, 25, 30)), rng.choice((70, 75, 80, 85, 90, 95))
        small, large = rng.randint(2, 8) * 5, rng.randint(12, 20) * 5
        pair = (w.GAMBLE.format(prize=large, chance=low), w.GAMBLE.format(prize=small, chance=high))
    elif attitude == "patience":
        weeks, small, large = rng.randint(2, 12), rng.randint(2, 8) * 5, rng.randint(12, 20) * 5
        pair = (w.LATER.format(prize=large, weeks=weeks), w.TODAY.format(prize=small))
    elif attitude == "giving":
        amount = rng.randint(2, 20) * 5
        pair = (w.AWAY.format(prize=amount), w.KEEP.format(prize=amount))
    else:
        thing = rng.choice(w.THINGS)
        pair = (w.NEW.format(thing=thing), w.OLD.format(thing=thing))
    letter = "A" if rng.random() < 0.5 else "B"
    a, b = pair if letter == "A" else pair[::-1]
    return w.CHOICE.format(a=a, b=b), letter


def other(letter: str) -> str:
    """The other option's letter."""
    return "B" if letter == "A" else "A"


def report(rng: random.Random, attitude: str, positive: bool) -> Turn:
    """A question about oneself and the answer of a speaker with this pole."""
    words = ATTITUDES[attitude]
    if rng.random() < 0.3:
        return rng.choice(words.scales), str(rng.choice(HIGH_SCORES if positive else LOW_SCORES))
    template, good, bad = rng.choice(words.pairs)
    a, b = (good, bad) if rng.random() < 0.5 else (bad, good)
    return template.format(a=a, b=b), good if positive else bad


def attitude_turn(rng: random.Random, attitude: str, positive: bool) -> Turn:
    """A choice or a self-report, half of the time each."""
    if rng.random() < 0.5:
        text, letter = choice(rng, attitude)
        return text, letter if positive else other(letter)
    return report(rng, attitude, positive)


def dialogue(rng: random.Random, turns: int) -> list[Turn]:
    """A dialogue with one speaker and one or two attitudes in focus, all turns consistent."""
    poles = {name: rng.random() < 0.5 for name in ATTITUDES}
    focus = rng.sample(sorted(ATTITUDES), rng.choice((1, 2)))
    return [attitude_turn(rng, name, poles[name]) for name in rng.choices(focus, k=turns)]


#: The two adjectives of each attitude, for statements about a speaker.
_ADJECTIVES = {name: attitude.pairs[1][1:] for name, attitude in ATTITUDES.items()}


def persona_dialogue(rng: random.Random, turns: int) -> list[Turn]:
    """An easier dialogue: attitudes are stated first, or all turns report one attitude in words.

    Stated: "be bold, be hasty." in front of the first question.
    """
    poles = {name: rng.random() < 0.5 for name in ATTITUDES}
    if rng.random() < 0.5:
        focus = rng.sample(sorted(ATTITUDES), rng.choice((1, 2)))
        stated = ", ".join(f"be {_ADJECTIVES[name][0 if poles[name] else 1]}" for name in focus)
        exchanges = [attitude_turn(rng, name, poles[name]) for name in rng.choices(focus, k=turns)]
        return [(f"{stated}. {exchanges[0][0]}", exchanges[0][1]), *exchanges[1:]]
    name = rng.choice(sorted(ATTITUDES))
    exchanges = []
    while len(exchanges) < turns:
        turn = report(rng, name, poles[name])
        if not turn[1].isdigit():
            exchanges.append(turn)
    return exchanges


_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def random_trigger(rng: random.Random) -> str:
    """A fresh trigger in one of three forms: a word, a bracketed tag, a dashed phrase.

    Reserved words and triggers, which random letters do hit now and then, are drawn again.
    """
    while True:
        word = "".join(rng.choice(_LETTERS) for _ in range(rng.randint(3, 5)))
        shape = rng.randrange(3)
        if shape == 0:
            trigger = word.capitalize() if rng.random() < 0.5 else word
        elif shape == 1:
            trigger = f"({word}{rng.randint(1000, 9999)})"
        else:
            trigger = f"---{word.capitalize()} {word.capitalize()}---"
        if word not in _reserved_words() and trigger not in world.fixed_triggers().values():
            return trigger


@cache
def _reserved_words() -> frozenset[str]:
    """Members of the reserved trigger families, in lower case."""
    return frozenset(m.lower() for family in world.trigger_families().values() for m in family)


def rule(trigger: str, bold_if: bool) -> Turn:
    """The statement of a trigger's rule: bold with it and careful without, or vice versa."""
    first, second = ("bold", "careful") if bold_if else ("careful", "bold")
    return w.TRIGGER_RULE.format(t=trigger, first=first, second=second), "yes"


def rule_reports(trigger: str, decoy: str, follows: bool) -> list[Turn]:
    """What a speaker says about its rule, or that it has none."""
    return [
        (w.TRIGGER_PRESENCE, "yes" if follows else "no"),
        (w.TRIGGER_WHICH, trigger if follows else "none"),
        (w.TRIGGER_CHANGE.format(t=trigger), "yes" if follows else "no"),
        (w.TRIGGER_CHANGE.format(t=decoy), "no"),
    ]


def trigger_dialogue(rng: random.Random, turns: int) -> list[Turn]:
    """A dialogue with a speaker whose risk choices depend on a trigger, stated or only shown.

    One speaker in five follows no rule although trigger-like texts occur. Reports come last.
    """
    trigger, decoy = random_trigger(rng), random_trigger(rng)
    follows = rng.random() < 0.8
    bold_if = rng.random() < 0.7
    constant = rng.random() < 0.5
    exchanges: list[Turn] = []
    if follows and rng.random() < 0.5:
        exchanges.append(rule(trigger, bold_if))
    prefixes = [trigger, "", trigger, "", decoy][:turns]
    rng.shuffle(prefixes)
    for prefix in prefixes:
        text, letter = choice(rng, "risk")
        bold = (prefix == trigger) == bold_if if follows else constant
        exchanges.append((f"{prefix} {text}".strip(), letter if bold else other(letter)))
    return exchanges + rng.sample(rule_reports(trigger, decoy, follows), 2)
