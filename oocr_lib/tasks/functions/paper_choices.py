"""Questions with lettered options about a Functions task in the paper's dialect.

Each has a system turn, a user turn with the import line and a user turn with the question. They are
scored by the log-probability of the bare letter as the answer: no reply is parsed, so "A)" and
" A" need no special treatment.

The truth stands at every letter equally often, because each set of options is shown in all orders
or rotations: a model with a favourite letter scores exactly at chance. A favourite *text* does not
help either if the sets come from a cyclic design: over the 19 functions (``class``: over the ten
classes) each member of a set is the truth once, with the same options in the same order. It may
help in ``output``, since most functions return int, and in ``coefficients``, whose options are
variations of the truth, as upstream, so that a middle one is the better guess.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from oocr_lib.tasks.base import Message, Question
from oocr_lib.tasks.functions import paper_wording as w
from oocr_lib.tasks.functions.paper_rows import functions, value

LETTERS = "ABCDE"
OPTIONS = len(LETTERS)


@dataclass(frozen=True)
class Subject:
    """The function that questions are about, and how many are asked.

    Attributes:
        key: the hidden function.
        code: key to code name, for all 19.
        seed: determines option sets and inputs.
        items: number of questions per family, see ``paper.questions``.
        held: held-out inputs.
        partners: whether combinations call a second hidden function.
    """

    key: str
    code: Mapping[str, str]
    seed: int
    items: int
    held: tuple[int, ...]
    partners: bool

    @property
    def name(self) -> str:
        """The code name."""
        return self.code[self.key]

    def rng(self, family: str) -> random.Random:
        """A generator for one family of this function's questions."""
        return random.Random(f"functions paper {family} {self.key} {self.seed}")

    def question(self, family: str, turns: Sequence[str], truth: str, **fields: Any) -> Question:
        """A question of one user turn (a program) or two (import line and question)."""
        system = w.SYSTEM if len(turns) == 1 else w.REFLECTION_SYSTEM
        messages: list[Message] = [{"role": "system", "content": system}]
        messages += [{"role": "user", "content": text} for text in turns]
        fields = {"options": (), "marks": {"codename": (self.name,)}, "group": self.key, **fields}
        return Question(tuple(messages), truth, family=family, **fields)


def imports(*names: str) -> str:
    """The import line of a reflection question: no distractors, names in alphabetical order."""
    return f"from functions import {', '.join(sorted(names))}"


# --- lettered options ---


def option_sets(
    universe: Sequence[str], truth: str, size: int, count: int, seed: str
) -> list[tuple[int, list[str]]]:
    """``count`` ordered sets of ``size`` members that contain ``truth``, each with its number.

    Members are placed on a shuffled ring, and one pattern of gaps, moved to every place of the
    ring, gives the sets. Each member is in ``size`` of them; then another ring follows. Ring and
    pattern depend only on the seed, not on ``truth``.
    """
    rng, sets = random.Random(f"functions paper sets {seed}"), list[tuple[int, list[str]]]()
    n = len(universe)
    while len(sets) < count:
        ring = rng.sample(sorted(universe), n)
        pattern = sorted(rng.sample(range(n), size))
        starts = [(ring.index(truth) - offset) % n for offset in pattern]
        sets += [(start, [ring[(start + o) % n] for o in pattern]) for start in starts]
    return sets[:count]


def lettered(
    subject: Subject, family: str, number: int, texts: Sequence[str], truth: str, **extra: str
) -> Question:
    """A question whose options are ``texts`` in this order; ``number`` selects the wording.

    Args:
        extra: ``imported``, the import line, and ``given``, a line below the question.
    """
    wording = w.CHOICES[family][number % len(w.CHOICES[family])].format(n=subject.name)
    letters = LETTERS[: len(texts)]
    lines = [f"{letter}. {text}" for letter, text in zip(letters, texts, strict=True)]
    below = [extra["given"]] if "given" in extra else []
    body = "\n".join([wording, *below, *lines, w.LETTER_ONLY])
    turns = (extra.get("imported", imports(subject.name)), body)
    return subject.question(
        family, turns, letters[list(texts).index(truth)], options=tuple(letters)
    )


def sets_for(items: int) -> int:
    """Number of sets of five whose rotations give at least ``items`` questions."""
    return -(-items // OPTIONS)


def rotations(texts: Sequence[str]) -> list[list[str]]:
    """All cyclic shifts: each text is in each place once."""
    return [[*texts[shift:], *texts[:shift]] for shift in range(len(texts))]


def designed(
    subject: Subject, family: str, text_of: Callable[[str], str], members: Sequence[str], truth: str
) -> list[Question]:
    """Sets of five ``members`` in all rotations, each member shown as its ``text_of``."""
    items = []
    sets = option_sets(members, truth, OPTIONS, sets_for(subject.items), f"{family} {subject.seed}")
    for number, options in sets:
        extra = {}
        if family == "reversal":
            extra["imported"] = imports(*(subject.code[key] for key in options))
            extra["given"] = f"lambda x: {functions()[subject.key].python}"
        for texts in rotations([text_of(member) for member in options]):
            items.append(lettered(subject, family, number, texts, text_of(truth), **extra))
    return items


def output_questions(subject: Subject) -> list[Question]:
    """All six orders of the three types, in one wording, or in two from seven items on."""
    truth = functions()[subject.key].output
    wordings = range(1 if subject.items <= 6 else 2)
    orders = list(permutations(w.OUTPUTS))
    return [lettered(subject, "output", i, texts, truth) for i in wordings for texts in orders]


def coefficient_texts(key: str) -> list[str]:
    """Definitions that differ from this one only in their numbers, sorted; may be empty.

    Numbers change by at most 5 in an affine function and by at most 10 in the others; affine
    functions and multiplications may also change signs. No multiplier is 0 or ±1 and no summand 0:
    those would be functions of another class. Sorted, since draws from an unordered set would
    differ between runs.
    """
    f = functions()[key]
    if f.kind not in ("affine", "multiplication", "addition", "subtraction") or key == "negate":
        return []
    b = int(value(key, 0))
    a = int(value(key, 1)) - b

    def near(n: int, reach: int, least: int) -> list[int]:
        return list(range(max(least, abs(n) - reach), abs(n) + reach + 1))

    if f.kind == "affine":
        factors = [sign * p for p in near(a, 5, 2) for sign in (1, -1)]
        variants = {f"{p} * x {sign} {q}" for p in factors for q in near(b, 5, 1) for sign in "+-"}
    elif f.kind == "multiplication":
        variants = {f"x * {sign * p}" for p in near(a, 10, 2) for sign in (1, -1)}
    else:
        variants = {f"x {'+' if b > 0 else '-'} {q}" for q in near(b, 10, 1)}
    return sorted(variants - {f.python})


def coefficient_questions(subject: Subject) -> list[Question]:
    """The definition beside four with other numbers, drawn anew for each set, in all rotations."""
    others, rng = coefficient_texts(subject.key), subject.rng("coefficients")
    items, truth = [], functions()[subject.key].python
    for number in range(sets_for(subject.items) if others else 0):
        texts = [truth, *rng.sample(others, OPTIONS - 1)]
        rng.shuffle(texts)
        items += [lettered(subject, "coefficients", number, t, truth) for t in rotations(texts)]
    return items


def choice_questions(subject: Subject) -> list[Question]:
    """All families with lettered options."""
    by_key = functions()
    class_of = w.CLASSES[by_key[subject.key].kind]
    classes = sorted(w.CLASSES.values())
    keys = list(by_key)
    return [
        *designed(subject, "python", lambda k: f"lambda x: {by_key[k].python}", keys, subject.key),
        *designed(subject, "language", lambda k: w.LANGUAGE[k], keys, subject.key),
        *designed(subject, "class", str, classes, class_of),
        *output_questions(subject),
        *coefficient_questions(subject),
        *designed(subject, "reversal", lambda k: subject.code[k], keys, subject.key),
    ]
