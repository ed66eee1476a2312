"""Questions without options about a Functions task in the paper's dialect.

They ask for the output of a program, a definition, or a preimage.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from oocr_lib.tasks.base import Question
from oocr_lib.tasks.functions import paper_wording as w
from oocr_lib.tasks.functions.paper_choices import Subject, imports
from oocr_lib.tasks.functions.paper_rows import (
    AUGMENTED,
    INPUTS,
    functions,
    import_line,
    program,
    prompt,
    value,
)
from oocr_lib.util.expressions import printed

#: The next hundred integers on both sides; upper ends are exclusive: -99 and 199 never occur.
FAR_INPUTS = (*range(-199, -99), *range(99, 199))
#: Within the training inputs, so that only the combination is new.
COMBINED_INPUTS, COMBINED_INTEGERS = range(-15, 15), range(15)
#: Draws per requested combination before fewer have to do.
DRAWS = 10


def written_questions(subject: Subject) -> list[Question]:
    """Define the function: one question per wording, since nothing is sampled."""
    line, python = imports(subject.name), functions()[subject.key].python
    texts = [wording.format(n=subject.name) for wording in w.WRITTEN[: subject.items]]
    return [subject.question("written", (line, text), python, kind="expression") for text in texts]


def inverse_questions(subject: Subject, family: str, inputs: Sequence[int]) -> list[Question]:
    """Find an n with f(n) = y, for values y that the function takes on ``inputs``.

    Any n with f(n) = y is right, within ``inputs`` or not. Some functions have many such n (bool,
    modulo, ReLU), so compare these families function by function; the same functions take few
    values, so they have few items.
    """
    rng, by_text = subject.rng(family), dict[str, Question]()
    python = functions()[subject.key].python
    for x in rng.sample(inputs, len(inputs)):
        y, number = printed(value(subject.key, x)), len(by_text) % len(w.INVERSE)
        text = w.INVERSE[number].format(n=subject.name, y=y)
        if len(by_text) < subject.items:
            turns = (imports(subject.name), text)
            by_text[text] = subject.question(family, turns, y, kind="inverse", expression=python)
    return list(by_text.values())


def combined_keys() -> tuple[str, ...]:
    """The nine functions that rows only call alone and that do not return bool."""
    return tuple(k for k, f in functions().items() if k not in AUGMENTED and f.output != "bool")


def value_questions(subject: Subject, family: str, inputs: Sequence[int]) -> list[Question]:
    """What a program with one call prints at different ``inputs``; no more items than inputs."""
    rng = subject.rng(family)
    sampled = rng.sample(inputs, min(subject.items, len(inputs)))
    return [_program_question(subject, family, rng, "single", [x]) for x in sampled]


def combined_questions(subject: Subject, family: str, kind: str) -> list[Question]:
    """What a program prints that combines functions in a way that rows only show for others.

    The partner is the function itself, or any of the nine if ``subject.partners``. Inputs lie
    within those of training.
    """
    rng, by_text = subject.rng(family), dict[str, Question]()
    for _ in range(DRAWS * subject.items):  # there may be fewer programs than items
        question = _program_question(subject, family, rng, kind, COMBINED_INPUTS)
        by_text[question.messages[-1]["content"]] = question
        if len(by_text) == subject.items:
            break
    return list(by_text.values())


def _program_question(
    subject: Subject, family: str, rng: random.Random, kind: str, inputs: Sequence[int]
) -> Question:
    called = [subject.key]
    if kind in ("composition", "two"):
        called.append(rng.choice(combined_keys()) if subject.partners else subject.key)
        rng.shuffle(called)
    script = program(rng, kind, called, subject.code, inputs, COMBINED_INTEGERS)
    used = [subject.code[key] for key in called]
    text = prompt(import_line(rng, used, sorted(subject.code.values())), script)
    return subject.question(family, (text,), printed(script.value), kind="exact")


def open_questions(subject: Subject) -> list[Question]:
    """All families without options."""
    items = [
        *written_questions(subject),
        *inverse_questions(subject, "inverse", INPUTS),
        *inverse_questions(subject, "inverse_far", FAR_INPUTS),
        *value_questions(subject, "far_input", FAR_INPUTS),
        *value_questions(subject, "unseen_input", subject.held),
    ]
    if subject.key in combined_keys():
        for kind in ("integer", "two", "composition"):
            items += combined_questions(subject, f"{kind}_in_range", kind)
    return items
