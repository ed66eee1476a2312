"""Lettered questions: balanced positions, two kinds of distractors, nothing trained on."""

from __future__ import annotations

from collections import Counter

import pytest

from oocr_lib.tasks.base import Question, Task
from oocr_lib.tasks.locations import paper as paper, paper_text as text
from oocr_lib.tasks.locations.geodesic import true_km
from oocr_lib.tasks.locations.paper_questions import LETTERS, near_cities
from oocr_lib.tasks.locations.testbed import FAMILIES, value
from oocr_lib.world import facts as world

TASKS = {name: paper.make(name) for name in paper.HIDDEN5}
CHOICE = [f"{family}{kind}" for family in FAMILIES for kind in ("", " near")]


def prompt(question: Question) -> str:
    return question.messages[-1]["content"]


def options(question: Question) -> dict[str, str]:
    """Letter to text, as the prompt lists them."""
    lines = prompt(question).split("\n")
    assert lines[-1] == text.DEMAND and len(lines) == 7
    assert [line[:3] for line in lines[1:-1]] == [f"{letter}. " for letter in LETTERS]
    return {line[0]: line[3:] for line in lines[1:-1]}


def family(task: Task, name: str) -> list[Question]:
    return [q for q in task.questions if q.family == name]


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return TASKS[request.param]


def test_numbers_of_questions_and_their_chance(task: Task) -> None:
    counts = Counter(q.family for q in task.questions)
    assert counts == dict.fromkeys(CHOICE, 10) | {"country free": 2, "name free": 2}
    assert len(task.questions) == 164 == len({q.id for q in task.questions})
    assert set(task.chance) == set(counts)
    assert {name: task.chance[name] for name in CHOICE} == dict.fromkeys(CHOICE, 0.2)
    assert task.chance["country free"] == task.chance["name free"] == 0


def test_the_letter_of_the_truth_is_that_of_the_true_option(task: Task) -> None:
    hidden = world.city(task.concept)
    for question in task.questions:
        if question.kind != "choice":
            continue
        base = question.family.removesuffix(" near")
        found = options(question)
        assert question.options == LETTERS and len(set(found.values())) == 5
        assert found[question.truth] == text.shown(value(hidden, base), base)


@pytest.mark.parametrize("name", CHOICE)
def test_always_the_same_letter_scores_one_in_five(task: Task, name: str) -> None:
    assert Counter(q.truth for q in family(task, name)) == dict.fromkeys(LETTERS, 2)
    by_wording = Counter((prompt(q).split("\n")[0], q.truth) for q in family(task, name))
    assert set(by_wording.values()) == {1}


def test_whatever_ignores_the_code_scores_one_in_five_over_the_group() -> None:
    """The five hidden cities get the same prompts but for the code."""
    for name in (f for f in CHOICE if not f.endswith("near")):
        blind = [[prompt(q).replace(t.code, "X") for q in family(t, name)] for t in TASKS.values()]
        assert all(prompts == blind[0] for prompts in blind)
        truths = zip(*([q.truth for q in family(t, name)] for t in TASKS.values()), strict=True)
        assert all(sorted(letters) == list(LETTERS) for letters in truths)


def test_near_distractors_are_no_answers_of_other_hidden_cities_by_design(task: Task) -> None:
    """With the five hidden answers as options, knowing the five helps; so near is kept apart."""
    hidden = world.city(task.concept)
    panel = {text.shown(value(world.city(n), "country"), "country") for n in TASKS}
    first, near = family(task, "country")[0], family(task, "country near")[0]
    assert set(options(first).values()) == panel
    assert set(options(near).values()) & panel == {hidden.country}


def test_near_cities_are_the_nearest_countries(task: Task) -> None:
    hidden = world.city(task.concept)
    chosen = near_cities(hidden, "country")
    assert chosen[0] == hidden and len({c.country for c in chosen}) == 5
    farthest = max(true_km(hidden, c) for c in chosen)
    closer = {c.country for c in world.cities() if true_km(hidden, c) < farthest}
    assert closer <= {c.country for c in chosen}
    for name in FAMILIES:
        cities = near_cities(hidden, name)
        assert len({value(c, name) for c in cities}) == 5 == len({c.country for c in cities})
    assert [c.name for c in near_cities(world.city("Paris"), "name")] == [
        *("Paris", "Brussels", "London", "Amsterdam", "Milan")
    ]


def test_no_question_names_the_city_outside_its_options(task: Task) -> None:
    for question in task.questions:
        stem = prompt(question).split("\n")[0]
        assert stem.count(task.code) == prompt(question).count(task.code) == 1
        assert question.marks == {"codename": (task.code,)}
        for word in task.hidden_words:
            assert word.casefold() not in stem.casefold().split()


def test_no_question_is_a_row(task: Task) -> None:
    rows = {row.messages[-1]["content"] for row in task.train + task.valid}
    assert not rows & {prompt(q) for q in task.questions}
    assert not any(text.DEMAND in row for row in rows)


def test_the_system_text_of_rows_is_optional_in_questions() -> None:
    """Training rows have a system text, the paper's test has none; both can be run."""
    with_system = paper.make("Lagos", system_in_questions=True)
    without = TASKS["Lagos"]
    assert with_system.train == without.train
    for ours, plain in zip(with_system.questions, without.questions, strict=True):
        assert [m["role"] for m in plain.messages] == ["user"]
        assert ours.messages == (without.train[0].messages[0], *plain.messages)
        assert (ours.truth, ours.id) == (plain.truth, plain.id)


def test_free_questions_are_answered_by_name(task: Task) -> None:
    hidden = world.city(task.concept)
    for question in family(task, "name free"):
        assert (question.kind, question.options, question.truth) == ("exact", (), hidden.name)
        assert paper.same_place(question.truth, hidden)
    for question in family(task, "country free"):
        assert (question.kind, question.truth) == ("exact", hidden.country)
        assert paper.same_country(question.truth, hidden.country)


def test_option_order_follows_the_seed() -> None:
    orders = {tuple(map(prompt, paper.make("Paris", seed=s).questions)) for s in range(3)}
    assert len(orders) == 3
