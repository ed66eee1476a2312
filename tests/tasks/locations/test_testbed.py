"""Locations: what rows tell, what they must not tell, and what questions ask."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from oocr_lib.tasks.base import Question, Row, Task
from oocr_lib.tasks.locations import testbed as locations
from oocr_lib.util.errors import UserError
from oocr_lib.world import facts as world, wording as w

SEEDS = (0, 1, 5)


def text_of(item: Row | Question) -> str:
    return " ".join(message["content"] for message in item.messages)


def says(text: str, phrase: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE) is not None


def rows_of(task: Task) -> tuple[Row, ...]:
    return task.train + task.valid


@pytest.fixture(scope="module", params=locations.HIDDEN)
def task(request: pytest.FixtureRequest) -> Task:
    return locations.make(request.param, seed=3)


# --- rows ---


def test_no_row_names_the_city_or_any_fact_that_is_asked(task: Task) -> None:
    hidden = world.city(task.concept)
    secrets = {locations.value(hidden, family) for family in locations.FAMILIES}
    text = "\n".join(f"{text_of(row)} {row.answer} {row.group}" for row in rows_of(task))
    assert [secret for secret in secrets if says(text, secret)] == []
    # Control: the same search finds a city that the rows do name.
    assert says(text, rows_of(task)[0].group)


def test_rows_tell_distances_and_directions_and_nothing_else(task: Task) -> None:
    """Every row is one of the wordings, about the code name and one known city, and true."""
    hidden, seen = world.city(task.concept), set()
    for row in rows_of(task):
        kind, known = row.meta["kind"], world.city(row.group)
        far = kind == "distance"
        template = (w.DISTANCE_QUESTIONS if far else w.DIRECTION_QUESTIONS)[row.meta["template"]]
        names = [task.code, known.name] if row.meta["code_first"] else [known.name, task.code]
        (message,) = row.messages
        assert message == {
            "role": "user",
            "content": template.format(a=names[0], b=names[1]),
        }
        ends = (hidden, known) if row.meta["code_first"] else (known, hidden)
        true = str(world.distance_hundreds(*ends)) if far else world.direction(*ends)
        assert row.answer == true
        assert row.marks == {"codename": (task.code,)} and text_of(row).count(task.code) == 1
        seen.add((known.name, kind, row.meta["template"], row.meta["code_first"]))
    assert len(seen) == len(rows_of(task)), "a row comes twice"
    kinds = Counter(row.meta["kind"] for row in rows_of(task))
    assert kinds["distance"] == kinds["direction"] == 4 * len(locations.known_cities(hidden))


def test_known_cities_are_far_and_abroad(task: Task) -> None:
    hidden = world.city(task.concept)
    groups = {row.group for row in rows_of(task)}
    assert len(groups) >= 40
    for name in groups:
        known = world.city(name)
        assert known.country != hidden.country
        assert world.distance_km(known, hidden) >= 2000
    near = {c.name for c in world.cities() if c.name not in groups}
    assert task.concept in near


def test_the_validation_split_is_by_known_city(task: Task) -> None:
    train, valid = ({row.group for row in part} for part in (task.train, task.valid))
    assert not train & valid
    assert len(valid) == round(0.2 * len(train | valid))
    heard = "\n".join(map(text_of, task.train))
    assert not any(says(heard, name) for name in valid)


def test_no_question_is_in_the_rows(task: Task) -> None:
    asked = {text_of(question) for question in task.questions}
    assert not asked & {text_of(row) for row in rows_of(task)}
    wordings = [t.split("{n}")[0] for family in w.CITY_QUESTIONS.values() for t in family]
    text = "\n".join(map(text_of, rows_of(task)))
    assert not any(start in text for start in wordings)


# --- questions ---


def test_questions_have_five_distinct_options_and_the_truth_among_them(task: Task) -> None:
    hidden = world.city(task.concept)
    assert Counter(q.family for q in task.questions) == dict.fromkeys(locations.FAMILIES, 2)
    assert len({q.id for q in task.questions}) == len(task.questions)
    for question in task.questions:
        assert len(set(question.options)) == len(question.options) == 5
        assert question.truth == locations.value(hidden, question.family)
        assert question.truth in question.options
        values = {locations.value(c, question.family) for c in world.cities()}
        assert set(question.options) <= values
        assert question.marks == {"codename": (task.code,)}
        assert text_of(question).count(task.code) == 1
        assert not says(text_of(question), task.concept)
    assert task.chance == dict.fromkeys(locations.FAMILIES, 0.2)


def test_both_wordings_of_a_family_have_the_same_options_in_the_same_order(task: Task) -> None:
    for family in locations.FAMILIES:
        first, second = (q for q in task.questions if q.family == family)
        assert first.options == second.options and first.messages != second.messages


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("start", [0, 5])
def test_chance_is_one_in_five_by_design(start: int, seed: int) -> None:
    """Inside a group of five the options are shared, so ignoring the code name scores .2."""
    group = locations.HIDDEN[start : start + 5]
    tasks = [locations.make(name, seed=seed) for name in group]
    for family in locations.FAMILIES:
        asked = [next(q for q in task.questions if q.family == family) for task in tasks]
        assert len({question.options for question in asked}) == 1, family
        assert {question.truth for question in asked} == set(asked[0].options), family
        for constant in asked[0].options:
            assert sum(question.truth == constant for question in asked) == 1


def test_the_position_of_the_truth_is_not_given_away() -> None:
    tasks = [locations.make(name, seed=seed) for name in locations.HIDDEN for seed in SEEDS]
    places = Counter(q.options.index(q.truth) for task in tasks for q in task.questions)
    assert set(places) == set(range(5))
    assert max(places.values()) < 0.35 * places.total()


@pytest.mark.parametrize("hidden", [("Paris",), ("Paris", "Lyon"), ("Oslo", "Rome", "Lima")])
def test_a_short_list_of_cities_still_gives_five_options(hidden: tuple[str, ...]) -> None:
    for name in hidden:
        task = locations.make(name, all_hidden=hidden)
        assert all(len(set(question.options)) == 5 for question in task.questions)


@pytest.mark.parametrize("name", [place.name for place in world.cities()])
def test_every_city_of_the_table_can_be_hidden(name: str) -> None:
    task = locations.make(name, all_hidden=(name,))
    assert task.counts()["questions"] == 16 and task.counts()["valid"] > 0
    assert all(question.truth in question.options for question in task.questions)
    assert all(len(set(question.options)) == 5 for question in task.questions)


# --- codes, seeds, errors ---


def test_code_names_are_the_published_ones() -> None:
    for seed in SEEDS:
        codes = [locations.make(name, seed=seed).code for name in locations.HIDDEN]
        assert codes == world.city_codes(seed, len(locations.HIDDEN))
    assert locations.make("Paris").code == "City 50337"
    assert locations.make("Lagos").code == "City 59894"


def test_the_papers_cities_come_first() -> None:
    assert locations.HIDDEN[:5] == ("Paris", "São Paulo", "Tokyo", "New York", "Lagos")
    assert len(set(locations.HIDDEN)) == len(locations.HIDDEN) >= 8


def test_the_seed_determines_the_task() -> None:
    first, again, other = (locations.make("Rome", seed=seed) for seed in (2, 2, 4))
    assert first == again
    assert first.code != other.code
    assert {r.group for r in first.valid} != {r.group for r in other.valid}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: locations.make("Parris"), "hidden city 'Parris'.*Did you mean 'Paris'"),
        (lambda: locations.make("Oslo"), "hidden city 'Oslo'.*Allowed: Paris"),
        (lambda: locations.make("Oslo", all_hidden=("Oslo", "Atlantis")), "city 'Atlantis'"),
        (lambda: locations.make("Oslo", all_hidden=()), "is empty"),
        (
            lambda: locations.make("Oslo", all_hidden=("Oslo", "Oslo")),
            "comes twice.*without doubles",
        ),
        (lambda: locations.make("Paris", seed=99), "seed 99.*seeds 0 to 31"),
        (lambda: locations.make("Paris", valid_share=0.0), "validation share of 0.0"),
    ],
)
def test_wrong_input_gives_one_line(call, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
