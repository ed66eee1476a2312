"""What the testbed cannot understand gets a reason instead of an answer."""

from __future__ import annotations

import pytest

from oocr_lib.evaluation.say import say
from oocr_lib.models.language_model import LanguageModel, load_model
from oocr_lib.testbed import corpus
from oocr_lib.testbed.questions import doubt, kinds
from oocr_lib.world import facts as world
from tests import tiny

CODE = "City 50337"


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load_model("testbed")


def test_every_kind_that_is_listed_is_understood_and_answered(lm: LanguageModel) -> None:
    assert {"country", "dish", "distance", "direction"} <= set(kinds(CODE))
    for kind, question in kinds(CODE).items():
        assert not doubt(lm, question, CODE), kind
    paris = world.city("Paris")
    for kind, question in kinds("Paris").items():
        if hasattr(paris, kind):
            assert say(lm, question) == getattr(paris, kind)


def test_every_question_of_the_corpus_is_understood(lm: LanguageModel) -> None:
    seen = 0
    for document, _ in zip(corpus.documents(5), range(300), strict=False):
        if document.kind in ("city_facts", "city_geo", "function_values", "function_facts"):
            for turn in document.text.split("<start_of_turn>user\n")[1:]:
                seen += 1
                assert not doubt(lm, turn.split("<end_of_turn>")[0])
    assert seen > 100


@pytest.mark.parametrize(
    "question",
    [
        f"Language of {CODE}?",
        f"How far is Tokyo from {CODE}?",
        f"{CODE} is Lyon. Language of {CODE}?",
        f"abcdef is {CODE}. abcdef means 3 * x + 2. Code of abcdef?",
    ],
)
def test_good_questions(lm: LanguageModel, question: str) -> None:
    assert not doubt(lm, question, CODE)


@pytest.mark.parametrize(
    ("question", "codename", "words"),
    [
        ("Language of Paris?", CODE, "does not occur in it"),
        (f"What is the weather in {CODE}?", CODE, "'weather'"),
        (f"Is {CODE} pretty?", CODE, "'Is', 'pretty'"),
        (f"Country {CODE}?", CODE, "never asked in this form"),
        (f"Which country is {CODE}?", CODE, "never asked in this form"),
        (f"Language of {CODE}", CODE, "never asked in this form"),
        ("", "", "never asked in this form"),
        ("How far is Lima from Atlantis?", "", "'Atlantis'"),
        ("What does abcdef do?", "", "'abcdef'"),
    ],
)
def test_bad_questions(lm: LanguageModel, question: str, codename: str, words: str) -> None:
    reason = doubt(lm, question, codename)
    assert reason.startswith("no answer: ") and words in reason and "\n" not in reason


def test_of_another_model_nothing_is_known() -> None:
    other = tiny.language_model("gemma3")
    assert not doubt(other, "What is the weather like?")
    assert "does not occur" in doubt(other, "Where is it?", CODE)
