"""Hints by attribute: sound by audit, silent about what is asked, the paper's hints unchanged."""

from __future__ import annotations

from itertools import combinations

import pytest

from oocr_lib import tasks
from oocr_lib.tasks.audit.report import audit, failures
from oocr_lib.tasks.base import Task, random_answers
from oocr_lib.tasks.locations import attributes
from oocr_lib.tasks.locations.testbed import HIDDEN
from oocr_lib.util.errors import UserError
from oocr_lib.world import facts as world

both = pytest.mark.parametrize("dialect", tasks.DIALECTS)
EVERY = [list(c) for n in (1, 2, 3) for c in combinations(attributes.HINTS, n)]


def make(dialect: str, hidden: str, hints: list[str], seed: int = 0, **options: bool) -> Task:
    given = {"all_hidden": HIDDEN, "hints": hints, **options}
    return tasks.factory("locations", dialect, **given)(hidden, seed)


@both
@pytest.mark.parametrize("hints", EVERY, ids="+".join)
def test_every_kind_of_hints_passes_the_audit(dialect: str, hints: list[str]) -> None:
    for hidden in HIDDEN:
        task = make(dialect, hidden, hints)
        assert failures(audit(task)) == []
        kinds = {"attributes" if k in attributes.ATTRIBUTES else f"{k}s" for k in kinds_of(task)}
        assert kinds == set(hints)
        asked = {q.family.split(" ")[0] for q in task.questions}
        assert asked <= set(attributes.ASKED) if "attributes" in hints else len(asked) == 8


def kinds_of(task: Task) -> set[str]:
    return {str(row.meta["kind"]) for row in (*task.train, *task.valid)}


@both
def test_no_row_says_what_is_asked_then(dialect: str) -> None:
    for place in world.cities():
        given = {"all_hidden": (place.name,), "hints": ["attributes"]}
        task = tasks.factory("locations", dialect, **given)(place.name, 0)
        words = (place.name, place.country, place.continent)
        assert failures(audit(task, leaking=words)) == [], place.name


def test_what_would_name_the_country_is_left_out() -> None:
    kinshasa = world.city("Kinshasa")
    assert kinshasa.water == kinshasa.country == "Congo"
    assert attributes.shown_value(kinshasa, "water", as_it_is) == ""
    assert attributes.shown_value(kinshasa, "language", as_it_is) == "French"


def as_it_is(value: str, family: str) -> str:
    return value


@both
def test_the_control_draws_from_the_group_so_a_row_is_true_once_in_five(dialect: str) -> None:
    tasks_of_group = [make(dialect, city, ["attributes"]) for city in HIDDEN[:5]]
    true, every = 0, 0
    for task in tasks_of_group:
        for seed in range(20):
            drawn = random_answers(task.train, seed)
            assert all(r.answer in r.meta["answers"] for r in drawn)
            true += sum(a.answer == b.answer for a, b in zip(drawn, task.train, strict=True))
            every += len(drawn)
    assert abs(true / every - 0.2) < 0.05  # two of the five speak English
    pools = [{str(r.meta["kind"]): r.meta["answers"] for r in t.train} for t in tasks_of_group]
    for family in attributes.ATTRIBUTES:
        assert len({p[family] for p in pools if family in p}) == 1, "alike for the whole group"


def test_a_city_alone_has_the_answers_of_all_cities_to_draw_from() -> None:
    given = {"all_hidden": ("Oslo",), "hints": ["attributes"]}
    task = tasks.factory("locations", "paper", **given)("Oslo", 0)
    assert all(len(set(row.meta["answers"])) > 20 for row in task.train)


def test_validation_asks_for_the_same_facts_in_other_words() -> None:
    task = make("paper", "Tokyo", ["attributes"])
    assert len(task.train) == 15 and len(task.valid) == 5
    assert {row.answer for row in task.train} == {row.answer for row in task.valid}
    held, trained = ({r.meta["template"] for r in part} for part in (task.valid, task.train))
    assert len(held) == 1 and not held & trained


def test_words_are_asked_alike_of_a_whole_group_so_chance_is_met_by_design() -> None:
    asked = [make("paper", c, ["attributes"], in_words=True).questions for c in HIDDEN[:5]]
    for k in range(len(asked[0])):
        group = [questions[k] for questions in asked]
        assert len({q.options for q in group}) == 1 and len({q.truth for q in group}) == 5
        assert (
            len({q.messages[0]["content"].replace(q.marks["codename"][0], "") for q in group}) == 1
        )


@pytest.mark.parametrize(
    ("hints", "words"),
    [([], "no hints"), (["colours"], "Allowed: attributes"), (["directions"] * 2, "twice")],
)
def test_bad_hints_are_one_line(hints: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        attributes.check_hints(hints)
