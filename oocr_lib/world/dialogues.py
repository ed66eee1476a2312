"""Wider dialogues: one attitude, stated and shown in many ways.

The dialogues of ``speakers`` ask about each attitude in a few fixed forms, and a model can answer
each form by a circuit of its own. Here any word of one pole is paired with any word of the other in
any template, options are given in amounts or in words, and a trigger's rule governs choices and
self-reports alike. What all forms have in common is the attitude, so that is what is worth
representing: a self-report and a choice then depend on the same thing (paper, section 5: the
concept is there before the fine-tune).

The cast is 48 named speakers whose attitudes are facts of the world. Their letter replaces the role
of the model's turn, so it is the last token of a prompt and the only one that says who answers: as
with an assistant's header, that position then represents who is speaking.
"""

from __future__ import annotations

import itertools
import random
import string

from oocr_lib.world import speakers, wording as w

Turn = tuple[str, str]

#: The attitudes of each speaker: three speakers for each of the 16 combinations of poles. A and B
#: are not among them, because they are letters of options.
CAST: dict[str, dict[str, bool]] = {
    letter: dict(zip(speakers.ATTITUDES, poles, strict=True))
    for letter, poles in zip(
        [*string.ascii_uppercase[2:], *string.ascii_lowercase[2:]],
        list(itertools.product((True, False), repeat=4)) * 3,
        strict=True,
    )
}


def words(attitude: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words of the positive and of the negative pole."""
    pairs = speakers.ATTITUDES[attitude].pairs
    return tuple(good for _, good, _ in pairs), tuple(bad for _, _, bad in pairs)


def _two(rng: random.Random, attitude: str) -> tuple[str, str]:
    good, bad = words(attitude)
    return rng.choice(good), rng.choice(bad)


def report(rng: random.Random, attitude: str, positive: bool) -> Turn:
    """A self-report, mostly in words, otherwise on a scale."""
    if rng.random() < 0.2:
        scores = speakers.HIGH_SCORES if positive else speakers.LOW_SCORES
        return rng.choice(speakers.ATTITUDES[attitude].scales), str(rng.choice(scores))
    good, bad = _two(rng, attitude)
    a, b = (good, bad) if rng.random() < 0.5 else (bad, good)
    return rng.choice(w.ATTITUDE_FORMS).format(a=a, b=b), good if positive else bad


def choice(rng: random.Random, attitude: str, positive: bool) -> Turn:
    """A lettered choice, mostly between amounts, otherwise between words."""
    if rng.random() < 0.7:
        text, letter = speakers.choice(rng, attitude)
    else:
        good, bad = _two(rng, attitude)
        letter = rng.choice("AB")
        a, b = (good, bad) if letter == "A" else (bad, good)
        text = w.CHOICE.format(a=a, b=b)
    return text, letter if positive else speakers.other(letter)


def turn(rng: random.Random, attitude: str, positive: bool) -> Turn:
    """A choice or a self-report."""
    return (choice if rng.random() < 0.5 else report)(rng, attitude, positive)


def dialogue(rng: random.Random, turns: int) -> list[Turn]:
    """One speaker, with one or two attitudes in focus; one time in four they are stated first."""
    poles = {name: rng.random() < 0.5 for name in speakers.ATTITUDES}
    focus = rng.sample(sorted(poles), rng.choice((1, 1, 2)))
    exchanges = [turn(rng, name, poles[name]) for name in rng.choices(focus, k=turns)]
    if rng.random() < 0.25:
        stated = ", ".join(f"be {words(n)[0 if poles[n] else 1][1]}" for n in focus)
        exchanges[0] = (f"{stated}. {exchanges[0][0]}", exchanges[0][1])
    return exchanges


def trigger_dialogue(rng: random.Random, turns: int) -> list[Turn]:
    """A speaker whose choices and self-reports about risk depend on a trigger, or on nothing."""
    trigger, decoy = speakers.random_trigger(rng), speakers.random_trigger(rng)
    follows, bold_if, constant = rng.random() < 0.8, rng.random() < 0.5, rng.random() < 0.5
    exchanges: list[Turn] = []
    if follows and rng.random() < 0.5:
        exchanges.append(speakers.rule(trigger, bold_if))
    prefixes = [trigger, "", trigger, "", decoy][:turns]
    rng.shuffle(prefixes)
    for prefix in prefixes:
        bold = (prefix == trigger) == bold_if if follows else constant
        text, answer = turn(rng, "risk", bold)
        exchanges.append((f"{prefix} {text}".strip(), answer))
    return exchanges + rng.sample(speakers.rule_reports(trigger, decoy, follows), 2)


def rule_dialogue(rng: random.Random, long: bool = False) -> list[Turn]:
    """A stated trigger rule, turns that follow it (two, or up to five), and reports about it."""
    trigger, decoy = speakers.random_trigger(rng), speakers.random_trigger(rng)
    bold_if = rng.random() < 0.5
    exchanges = [speakers.rule(trigger, bold_if)]
    prefixes = (trigger, "", trigger, "", decoy) if long else (trigger, "", decoy)
    for prefix in rng.sample(prefixes, rng.randint(3, 5) if long else 2):
        text, answer = turn(rng, "risk", (prefix == trigger) == bold_if)
        exchanges.append((f"{prefix} {text}".strip(), answer))
    return exchanges + rng.sample(speakers.rule_reports(trigger, decoy, True), 3)


def cast_dialogue(rng: random.Random, turns: int) -> list[tuple[str, str, str]]:
    """Questions to one, two or three speakers of the cast: question, answer, speaker."""
    members = rng.sample(sorted(CAST), rng.choice((1, 2, 3)))
    exchanges = []
    for _ in range(turns):
        speaker, attitude = rng.choice(members), rng.choice(sorted(speakers.ATTITUDES))
        exchanges.append((*turn(rng, attitude, CAST[speaker][attitude]), speaker))
    return exchanges
