"""What a task is made of: rows to train on and questions that are never trained on.

Pure data, no torch. A *row* never names the hidden concept; a *question* asks for something that
follows from the concept but was never in a row (paper, section 2).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

from oocr_lib.util.arguments import checked
from oocr_lib.util.errors import UserError, choose
from oocr_lib.util.parsing import short


class Message(TypedDict):
    """One chat turn; ``role`` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Row:
    """One training example.

    Attributes:
        messages: the prompt's turns; the last one is a user turn.
        answer: the completion; the loss is taken over its tokens only.
        prefix: start of the model's turn, given and not trained on ("City 50337 is"); the answer
            then begins with its own space (" East").
        suffix: rest of the model's turn after the answer, for files; never seen in training.
        marks: literal strings to locate in the prompt, by kind, for instance
            ``{"codename": ("City 50337",)}``; an empty tuple means that the row deliberately has
            none, so an adapter at such a mark leaves it alone.
        group: rows of one group never cross the train/validation split.
        meta: facts about the row (kind, true value before rounding, template number);
            ``meta["answers"]`` has the answers of all hidden concepts to this row, for kinds where
            a concept has only one answer (``random_answers`` draws from them).

    Raises:
        UserError: a value of another type.
    """

    messages: tuple[Message, ...]
    answer: str
    marks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    suffix: str = ""

    def __post_init__(self) -> None:
        _check_types("Row", self.messages, answer=self.answer, prefix=self.prefix)


#: How a question is scored, see ``Question``.
KINDS = ("choice", "exact", "scale", "expression", "inverse")


@dataclass(frozen=True)
class Question:
    """One evaluation item of a question family.

    Kinds: ``choice`` compares ``options``, of which ``truth`` is one. ``exact`` asks whether
    greedy decoding writes ``truth``. ``scale`` reads a number from 0 to 100 as the expected value
    over the probabilities of all 101; ``truth`` is the end ("0" or "100") it should lie near.
    For ``expression`` the model writes an expression in x, right if it agrees with ``truth`` on
    fixed inputs. For ``inverse`` it writes an integer n, right if f(n) prints ``truth``, where f is
    ``expression``.

    Attributes:
        options: the answers to compare; empty for the other kinds.
        family: name of the question family, for instance ``country``.
        marks: as in ``Row``.
        prefix: start of the model's turn, as in ``Row``.
        expression: the definition in x, for ``inverse``.

    Raises:
        UserError: a value of another type, or an unknown kind.
    """

    messages: tuple[Message, ...]
    truth: str
    options: tuple[str, ...]
    family: str
    marks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group: str = ""
    id: str = ""
    kind: str = "choice"
    prefix: str = ""
    expression: str = ""

    def __post_init__(self) -> None:
        choose(self.kind, KINDS, "kind of question")
        _check_types("Question", self.messages, truth=self.truth, prefix=self.prefix)
        if not isinstance(self.options, (tuple, list)):
            raise UserError(
                f"Question: options is {short(self.options)}. Allowed: a list of texts, empty "
                "where nothing is chosen."
            )
        for option in self.options:
            if not isinstance(option, str):
                raise UserError(f"Question: an option is {short(option)}. Allowed: text.")


def check_row(row: Row, what: str) -> None:
    """Check that neither the prompt nor the answer of a row is empty.

    Args:
        what: how the message names the row.

    Raises:
        UserError: an empty question or answer.
    """
    for part, text in (("prompt", _last_turn(row)), ("answer", row.answer)):
        if not text.strip():
            other = row.answer if part == "prompt" else _last_turn(row)
            raise UserError(
                f"{what} has an empty {part} {text!r} beside {short(other)}. Allowed: text; leave "
                "the row out."
            )


def check_question(question: Question) -> None:
    """Check that a question can be asked and its options compared.

    Raises:
        UserError: an empty question, option or truth, a repeated option, or a truth that is not
            among the options.
    """
    label = f"Question {question.id!r} ({question.family}) {short(_last_turn(question))}"
    if not _last_turn(question).strip():
        raise UserError(f"{label} is empty. Allowed: text.")
    options, truth = question.options, question.truth
    wrong = question.kind == "choice" and truth not in options
    if wrong or not all(text.strip() for text in (truth, *options)):
        raise UserError(
            f"{label} has truth {truth!r} and options {list(options)!r}. Allowed: texts that are "
            "not empty; the truth of a choice is one of its options."
        )
    if len(set(options)) < len(options):
        double = next(text for text in options if options.count(text) > 1)
        raise UserError(f"{label} has the option {double!r} twice. Allowed: each option once.")


def _last_turn(item: Row | Question) -> str:
    return item.messages[-1]["content"] if item.messages else ""


def _check_types(owner: str, messages: object, **texts: object) -> None:
    """Checked by hand, because a task has thousands of rows and ``arguments.checked`` is slow."""
    if not isinstance(messages, (tuple, list)) or not all(isinstance(m, dict) for m in messages):
        raise UserError(
            f"{owner}: messages is {short(messages)}. Allowed: a list of turns, as of user('text')."
        )
    for name, text in texts.items():
        if not isinstance(text, str):
            raise UserError(f"{owner}: {name} is {short(text)}. Allowed: text.")


def user(text: str) -> tuple[Message, ...]:
    """A prompt of one user turn."""
    return ({"role": "user", "content": text},)


@dataclass(frozen=True)
class Task:
    """One hidden concept: rows to train on, validation rows of the same kind, questions.

    Attributes:
        concept: what is hidden, for instance ``Paris``; never named in ``train`` or ``valid``.
        code: the name that stands for it, for instance ``City 50337``.
        train, valid: rows of the training kind, split by group.
        questions: evaluation items, never trained on.
        chance: chance level of the multiple-choice score, by question family.
        hidden_words: words that no row may contain (the concept's name and others that give it
            away).
    """

    name: str
    dialect: str
    concept: str
    code: str
    seed: int
    train: tuple[Row, ...]
    valid: tuple[Row, ...]
    questions: tuple[Question, ...]
    chance: Mapping[str, float]
    hidden_words: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Number of training rows, validation rows, questions and question families."""
        return {
            "train": len(self.train),
            "valid": len(self.valid),
            "questions": len(self.questions),
            "families": len({q.family for q in self.questions}),
        }


@checked
def split_by_group(
    rows: Sequence[Row], share: float, seed: int
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Train and validation rows; whole groups go to one side, about ``share`` to validation.

    Raises:
        UserError: when ``share`` leaves one side empty.
    """
    groups = sorted({row.group for row in rows})
    n_valid = max(1, round(share * len(groups)))
    if not 0 < share < 1 or n_valid >= len(groups):
        raise UserError(
            f"A validation share of {share!r} leaves one side of {len(groups)} groups empty. "
            "Allowed: between 0 and 1, exclusive; 0.2 is the default."
        )
    valid_groups = set(random.Random(seed).sample(groups, n_valid))
    valid = tuple(row for row in rows if row.group in valid_groups)
    return tuple(row for row in rows if row.group not in valid_groups), valid


@checked
def random_answers(
    rows: Sequence[Row],
    seed: int,
    pool: Mapping[str, Collection[str]] | None = None,
    strata: Sequence[str] = (),
) -> tuple[Row, ...]:
    """Control: the same prompts with answers drawn anew, so that only the format is learned.

    Shuffling keeps how often each answer occurs, which alone can give a concept away. Here, within
    the rows of one ``meta['kind']``, all answers that occur are equally likely, and so are those in
    ``meta['answers']`` (a concept has one language: its own rows have no other to draw). If only
    two answers occur, the rows of each keep half of their answers, so that exactly half of all rows
    agree with the truth, up to one row.

    Args:
        pool: further answers to draw from, by kind: those of all concepts that might be hidden,
            for kinds where the set of answers alone gives the concept away (a function's values).
        strata: entries of ``meta`` whose values divide the rows further; with two answers, half of
            each part is kept, up to one row.

    Raises:
        UserError: a kind with only one answer, which every draw would keep.
    """
    rng, redrawn = random.Random(f"random answers {seed}"), list(rows)
    for kind, places in _by_kind(rows).items():
        others = _other_answers(rows, places) | set((pool or {}).get(kind, ()))
        answers = sorted({rows[i].answer for i in places} | others)
        _check_answers(kind, answers, "drawn anew", "meta['answers'] with those of other concepts")
        new_answers = {i: rng.choice(answers) for i in places}
        if len(answers) == 2 and not others:
            flipped = dict(zip(answers, answers[::-1], strict=True))
            cells: dict[tuple[str, ...], list[int]] = {}
            for i in places:
                key = (rows[i].answer, *(str(rows[i].meta.get(name)) for name in strata))
                cells.setdefault(key, []).append(i)
            for number, (key, cell) in enumerate(sorted(cells.items())):
                # Odd parts are rounded up and down in turn, so that the total stays at half.
                swapped = set(rng.sample(cell, (len(cell) + (number + 1) % 2) // 2))
                new_answers |= {i: flipped[key[0]] if i in swapped else key[0] for i in cell}
        for i in places:
            redrawn[i] = replace(rows[i], answer=new_answers[i])
    return tuple(redrawn)


@checked
def shuffle_answers(rows: Sequence[Row], seed: int) -> tuple[Row, ...]:
    """Control: the same rows with answers permuted among rows of the same ``meta['kind']``.

    Raises:
        UserError: a kind with only one answer, which every permutation keeps.
    """
    rng, shuffled = random.Random(seed), list(rows)
    for kind, places in _by_kind(rows).items():
        answers = [rows[i].answer for i in places]
        _check_answers(kind, sorted(set(answers)), "permuted", "random_answers instead")
        rng.shuffle(answers)
        for i, answer in zip(places, answers, strict=True):
            shuffled[i] = replace(rows[i], answer=answer)
    return tuple(shuffled)


def _by_kind(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Indices of the rows of each kind, kinds in alphabetical order."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(str(row.meta.get("kind")), []).append(place)
    return dict(sorted(places.items()))


def _other_answers(rows: Sequence[Row], places: Sequence[int]) -> set[str]:
    return {answer for i in places for answer in rows[i].meta.get("answers", ())}


def _check_answers(kind: str, answers: Sequence[str], verb: str, instead: str) -> None:
    """Refuse a single answer: the control would be the very run it is compared with."""
    if len(answers) < 2:
        raise UserError(
            f"Rows of kind {kind!r} all have the answer {answers[0]!r}: {verb}, it would stay the "
            f"truth, and the control would be none. Allowed: two answers or more; {instead}."
        )
