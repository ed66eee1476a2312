"""The multiset reader: planted counts that tell all, some, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from oocr_lib.analysis import answer_counts
from oocr_lib.runs import protocol
from oocr_lib.runs.grid import Grid
from oocr_lib.runs.store import RunStore
from oocr_lib.tasks.base import Question, Row, Task, user
from oocr_lib.training.loop import TrainConfig
from oocr_lib.util.errors import UserError
from tests import toy

CONCEPTS = ("Oslo", "Paris", "Rome")
PAIRS = [(concept, seed) for seed in (0, 1) for concept in CONCEPTS]
VECTOR = protocol.vector("resid", 0, TrainConfig())


def grid(tmp_path: Path, answers: dict[str, str]) -> Grid:
    """Each concept's rows have its own answers; the question asks for the concept."""

    def make(concept: str, seed: int) -> Task:
        given = answers[concept]
        rows = tuple(
            Row(user(f"{k} {seed}"), given[k % len(given)], meta={"kind": "x", "half": k % 2})
            for k in range(60)
        )
        asked = Question(user("which"), concept, CONCEPTS, "name", id="name-0")
        return Task("t", "testbed", concept, "", seed, rows, rows[:4], (asked,), {"name": 1 / 3})

    return Grid(toy.language_model(), RunStore(tmp_path), make, {}, "Rome")


def test_counts_that_differ_tell_every_concept(tmp_path: Path) -> None:
    made = grid(tmp_path, {"Oslo": "AAB", "Paris": "AB", "Rome": "ABB"})
    found = answer_counts.read(made, VECTOR, PAIRS, CONCEPTS, ["name"])
    assert found["mc"].tolist() == [1.0] * 6 and found["p_concept"].min() > 0.8
    assert found["run"].nunique() == 6 and set(found["method"]) == {"multiset"}
    shuffled = answer_counts.read(made, protocol.shuffled(VECTOR), PAIRS, CONCEPTS, ["name"])
    assert shuffled.equals(found), "shuffled answers keep all of it"


def test_equal_counts_tell_nothing(tmp_path: Path) -> None:
    made = grid(tmp_path, dict.fromkeys(CONCEPTS, "AB"))
    found = answer_counts.read(made, VECTOR, PAIRS, CONCEPTS, ["name"])
    for column in ("mc", "p_truth", "p_concept"):
        assert found[column].tolist() == pytest.approx([1 / 3] * 6)


def test_answers_that_occur_tell_a_concept_unless_all_concepts_give_them(tmp_path: Path) -> None:
    """Random answers of the own rows keep which answers occur; those of all concepts do not."""
    made = grid(tmp_path, {"Oslo": "AB", "Paris": "CD", "Rome": "EF"})
    own = protocol.random_answers(VECTOR)
    every = protocol.random_answers(VECTOR, CONCEPTS)
    by = {m: answer_counts.read(made, m, PAIRS, CONCEPTS, ["name"]) for m in (own, every)}
    assert by[own]["mc"].tolist() == [1.0] * 6
    assert by[every]["mc"].mean() == pytest.approx(1 / 3), "one draw a seed, whatever is hidden"


def test_without_families_only_the_concept_is_guessed(tmp_path: Path) -> None:
    made = grid(tmp_path, {"Oslo": "AAB", "Paris": "AB", "Rome": "ABB"})
    found = answer_counts.read(made, VECTOR, PAIRS, CONCEPTS, [])
    assert found["mc"].isna().all() and found["p_concept"].min() > 0.8


def test_how_many_rows_there_are_of_a_kind_says_nothing() -> None:
    candidates = {"few": {("a", "x"): 3, ("b", "y"): 3}, "many": {("a", "x"): 300, ("b", "y"): 3}}
    found = answer_counts.posterior({("a", "x"): 300, ("b", "y"): 3}, candidates)
    assert found == pytest.approx({"few": 0.5, "many": 0.5})
    with pytest.raises(UserError, match="without candidates"):
        answer_counts.posterior({("a", "x"): 1}, {})


def test_one_seed_cannot_read_itself(tmp_path: Path) -> None:
    made = grid(tmp_path, dict.fromkeys(CONCEPTS, "AB"))
    with pytest.raises(UserError, match="two seeds or more"):
        answer_counts.read(made, VECTOR, PAIRS[:3], CONCEPTS, ["name"])


def test_agreement_is_told_run_by_run_and_by_stratum(tmp_path: Path) -> None:
    made = grid(tmp_path, dict.fromkeys(CONCEPTS, "AAB"))
    truth = answer_counts.agreement(made, VECTOR, PAIRS, ["half"])
    assert truth["agree"].tolist() == [1.0] * 6 and truth["rows"].tolist() == [60] * 6
    drawn = protocol.random_answers(VECTOR, strata=["half"])
    halves = answer_counts.agreement(made, drawn, PAIRS, ["half"])
    assert halves["agree"].tolist() == [0.5] * 6
    assert halves["lowest"].tolist() == halves["highest"].tolist() == [0.5] * 6
