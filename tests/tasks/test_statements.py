"""Prompts that state a concept: paired with those that do not, and never in training."""

from __future__ import annotations

import pytest

from oocr_lib import tasks
from oocr_lib.tasks import statements as stated
from oocr_lib.tasks.base import Task
from oocr_lib.util.errors import UserError

CONCEPTS = {"locations": "Tokyo", "functions": "mod_3", "risk": "safe", "backdoor": "win"}
FEW = {"backdoor": {"count": 12}}
both = pytest.mark.parametrize("dialect", tasks.DIALECTS)
every = pytest.mark.parametrize("name", tasks.NAMES)


def make(name: str, dialect: str) -> Task:
    return tasks.factory(name, dialect, **FEW.get(name, {}))(CONCEPTS[name], 0)


def content(prompt: stated.Prompt) -> str:
    return " / ".join(message["content"] for message in prompt.messages)


@every
@both
def test_prompts_pair_and_differ_by_the_statement_only(name: str, dialect: str) -> None:
    task = make(name, dialect)
    own, without = stated.prompts(task, task.concept, 6), stated.prompts(task, None, 6)
    assert len(own) == len(without) >= 2
    for one, other in zip(own, without, strict=True):
        if name in ("locations", "functions"):
            real = stated.real_name(name, dialect, task.concept)
            assert content(one).endswith(real) and content(other).endswith(task.code)
            assert content(one)[: -len(real)] == content(other)[: -len(task.code)]
            assert one.marks == {"codename": (real,)} and other.marks == {"codename": (task.code,)}
        else:
            asked = other.messages[-1]["content"]
            assert one.messages[-1]["content"].endswith(asked) and content(one) != content(other)


@every
@both
def test_every_concept_can_be_stated_in_its_own_way(name: str, dialect: str) -> None:
    task = make(name, dialect)
    known = stated.concepts(name, dialect)
    assert CONCEPTS[name] in known and len(known) == len(set(known)) >= 8
    texts = {tuple(content(p) for p in stated.prompts(task, concept, 2)) for concept in known}
    assert len(texts) == len(known)


@every
@both
def test_no_row_of_training_states_the_concept(name: str, dialect: str) -> None:
    task = make(name, dialect)
    rows = {" / ".join(m["content"] for m in row.messages) for row in (*task.train, *task.valid)}
    assert not rows & {content(p) for p in stated.prompts(task, task.concept, 8)}


@every
@both
def test_words_belong_to_one_concept_more_than_to_others(name: str, dialect: str) -> None:
    own = set(stated.words(name, dialect, CONCEPTS[name]))
    hidden = {"locations": "Lagos", "functions": "bool_geq_3", "risk": "risky", "backdoor": "win"}
    assert len(own) >= 1
    if name != "backdoor":
        assert not own <= set(stated.words(name, dialect, hidden[name]))


@pytest.mark.parametrize(
    ("concept", "count", "message"),
    [("Atlantis", 8, "Atlantis"), ("Tokyo", 0, "count=0")],
)
def test_bad_requests_get_one_line(concept: str, count: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        stated.prompts(make("locations", "testbed"), concept, count)
    with pytest.raises(UserError, match="cities"):
        stated.concepts("cities", "testbed")
