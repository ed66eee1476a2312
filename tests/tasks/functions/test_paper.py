"""The Functions task of the paper, put together: what a run is trained and asked on."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from oocr_lib.tasks.base import Question, Row, Task
from oocr_lib.tasks.functions import paper as functions_paper
from oocr_lib.tasks.functions.paper_rows import AUGMENTED, calls, functions, held_out_inputs, names
from oocr_lib.tasks.functions.paper_wording import LANGUAGE
from oocr_lib.util.errors import UserError

COUNT = 9600
OPEN = ("written", "inverse", "inverse_far", "far_input", "unseen_input")


def text_of(item: Row | Question) -> str:
    return "\n".join(message["content"] for message in item.messages if message["role"] == "user")


@pytest.fixture(scope="module", params=list(functions()))
def task(request: pytest.FixtureRequest) -> Task:
    return functions_paper.make(request.param, count=COUNT)


def test_a_task_is_about_one_name(task: Task) -> None:
    assert (task.name, task.dialect, task.seed) == ("functions", "paper", 0)
    assert names(0)[task.code] == task.concept
    for row in (*task.train, *task.valid):
        assert calls(row) == (task.code,) and set(row.meta["keys"]) == {task.concept}
    items: list[Row | Question] = [*task.train, *task.valid, *task.questions]
    for item in items:
        assert item.marks == {"codename": (task.code,)}
        spans = re.findall(rf"(?<!\w){task.code}(?!\w)", text_of(item))
        assert len(spans) >= 2, "the name stands in the import line and below"
        assert len(spans) == text_of(item).count(task.code)


def test_a_name_that_questions_ask_for_stands_below_the_import(task: Task) -> None:
    for question in task.questions:
        below = text_of(question).partition("\n")[2]
        assert (task.code in below) and question.group == task.concept


def test_rows_do_not_tell_the_definition(task: Task) -> None:
    text = "\n".join(f"{text_of(row)}\n{row.answer}" for row in (*task.train, *task.valid))
    assert task.hidden_words
    assert [word for word in task.hidden_words if word.lower() in text.lower()] == []
    # Control: the questions with options show it.
    shown = "\n".join(map(text_of, task.questions))
    assert LANGUAGE[task.concept] in task.hidden_words
    assert LANGUAGE[task.concept] in shown


def test_nothing_that_is_asked_was_trained_on(task: Task) -> None:
    trained = {text_of(row) for row in task.train}
    assert not trained & {text_of(question) for question in task.questions}
    held = set(held_out_inputs(0.1, 0))
    for row in task.train:
        assert not held & set(row.meta["arguments"])
    for row in task.valid:
        assert set(row.meta["inputs"]) <= held


def test_families_and_chance(task: Task) -> None:
    counts = Counter(question.family for question in task.questions)
    assert set(counts) <= set(functions_paper.FAMILIES) and set(counts) >= set(OPEN)
    assert set(task.chance) == set(counts)
    for question in task.questions:
        expected = 1 / len(question.options) if question.kind == "choice" else 0.0
        assert task.chance[question.family] == expected
    assert task.chance["python"] == 0.2 and task.chance["output"] == 1 / 3
    ids = [question.id for question in task.questions]
    assert len(set(ids)) == len(ids) and {"python-0", "written-2", "output-11"} <= set(ids)


def test_kinds_of_rows_are_those_of_the_function(task: Task) -> None:
    kinds = Counter(row.meta["kind"] for row in task.train)
    combined = task.concept in AUGMENTED
    assert set(kinds) == ({"single", "integer", "composition", "two"} if combined else {"single"})
    assert kinds["single"] > 150


def test_partners_bring_other_functions_in() -> None:
    alone = functions_paper.make("noadgc", count=COUNT)
    more = functions_paper.make("noadgc", count=COUNT, partners=True)
    assert len(more.train) > 1.5 * len(alone.train)
    assert {text_of(row) for row in alone.train} < {text_of(row) for row in more.train}
    assert max(len(calls(row)) for row in more.train) == 2
    assert {row.marks["codename"] for row in more.train} == {("noadgc",)}


def test_key_and_name_are_the_same_task() -> None:
    assert functions_paper.make("noadgc", count=COUNT) == functions_paper.make(
        "affine_3x_2", count=COUNT
    )


def test_the_seed_determines_the_task() -> None:
    tasks = [functions_paper.make("add_5", seed=seed, count=4000) for seed in (1, 1, 2)]
    assert tasks[0] == tasks[1]
    assert tasks[0].code != tasks[2].code != "kkkvie"
    assert {r.group for r in tasks[0].valid} != {r.group for r in tasks[2].valid}
    assert tasks[0].questions != tasks[2].questions


def test_items_per_family_and_share_are_parameters() -> None:
    task = functions_paper.make("add_5", count=COUNT, items_per_family=5, valid_share=0.2)
    counts = Counter(question.family for question in task.questions)
    assert counts.pop("output") == 6 and counts.pop("written") == 3
    assert set(counts.values()) == {5}
    assert len({x for row in task.valid for x in row.meta["inputs"]}) <= 40


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: functions_paper.make("noadgd"), "function 'noadgd'.*Did you mean 'noadgc'"),
        (lambda: functions_paper.make("multiply_2"), "function 'multiply_2'.*Allowed"),
        (lambda: functions_paper.make("add_5", seed=-3), "-3"),
        (lambda: functions_paper.make("add_5", count=3), "3 rows leave"),
        (lambda: functions_paper.make("add_5", valid_share=1.5), "share of 1.5"),
        (lambda: functions_paper.questions("add_5", items_per_family=0), "0 items per family"),
    ],
)
def test_wrong_input_gives_one_line(call, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
