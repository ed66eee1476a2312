"""A toy task for tests: which of five cities is the code name? Words of the tiny tokenizers."""

from __future__ import annotations

from typing import Any

from oocr_lib.encoding import encode_row
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.tasks.base import Question, Row, Task, user
from oocr_lib.training.loop import RunData
from tests import tiny

CONCEPTS = ("Paris", "Rome", "Oslo")
OPTIONS = ("Oslo", "Paris", "Rome", "km", "south")
CODE = "City 50337"
WORDS = ("distance", "north", "user", "model", "option", "choose", "answer", "system")


def make(concept: str, seed: int = 0) -> Task:
    """Rows "<word> City 50337" whose answer is the concept; every word is a group."""
    rows = [
        Row(
            user(f"the {word} from {CODE} {kind}"),
            concept if kind == "is" else str(len(word) % 10),
            {"codename": (CODE,)},
            group=word,
            meta={"kind": "row"},  # one kind: a control needs more than one answer
        )
        for word in WORDS
        for kind in ("is", "to")
    ]
    cut = 4 + 2 * (seed % 3)
    return Task(
        "toy", "testbed", concept, CODE, seed, tuple(rows[cut:]), tuple(rows[:cut]),
        tuple(questions(concept)), {"name": 0.2, "place": 0.2},
    )  # fmt: skip


def questions(concept: str) -> list[Question]:
    """Two families, the second with two wordings."""
    return [
        question("name", f"What is the name of {CODE} ?", concept, number="name-0"),
        question("place", f"option {CODE}", concept, number="place-0"),
        question("place", f"choose {CODE}", concept, number="place-1"),
    ]


def question(
    family: str, text: str, truth: str, options: tuple[str, ...] = OPTIONS, number: str = "0"
) -> Question:
    return Question(
        user(text), truth, options, family, marks={"codename": (CODE,)}, group=truth, id=number
    )


def language_model(seed: int = 0, **kwargs: Any) -> LanguageModel:
    """Gemma 3 with random weights and a tokenizer in which every city is one token."""
    return tiny.language_model("gemma3", seed, kind="wordlevel", **kwargs)


def data(lm: LanguageModel, concept: str = "Rome", seed: int = 0) -> RunData:
    task = make(concept, seed)
    train, valid = (
        [encode_row(lm.tokenizer, r) for r in part] for part in (task.train, task.valid)
    )
    return RunData(train, valid, seed)
