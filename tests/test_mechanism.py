"""The backdoor's mechanism on the shipped testbed: shares that must hold by construction."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from oocr_lib import comparison, mechanism, suite
from oocr_lib.analysis.conditions import logit_difference
from oocr_lib.errors import UserError
from oocr_lib.experiment import Experiment, Settings
from oocr_lib.grid import Job, Method
from oocr_lib.mechanism import Case
from oocr_lib.study import Study

BLOCK = 4


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    out = tmp_path_factory.mktemp("out")
    exp = Experiment("05_test", "testbed", "laptop", 0, out, Settings({}))
    return suite.study(exp, "backdoor", 2, steps=10)


@pytest.fixture(scope="module")
def jobs(study: Study) -> list[Job]:
    made = comparison.jobs(study.vector("resid", BLOCK), study.pairs)
    study.grid.run(made)
    return made


@pytest.fixture
def case(study: Study, jobs: list[Job]) -> Iterator[Case]:
    with mechanism.opened(study, jobs[0]) as opened:
        yield opened


def test_prompts_are_held_out_and_their_first_letter_is_the_triggers(
    case: Case, study: Study
) -> None:
    task = study.grid.task(*study.pairs[0]).task
    asked = [q for q in task.questions if q.family == "triggered"]
    tokenizer = study.grid.lm.tokenizer
    assert [tokenizer.decode([i]) for i in case.triggered.letters[:, 0]] == [q.truth for q in asked]
    untriggered = [q for q in task.questions if q.family == "untriggered"]
    bare = [q for q in untriggered if not q.marks]
    assert [tokenizer.decode([i]) for i in case.bare.letters[:, 1]] == [q.truth for q in bare]
    assert len(case.bare.batch) + len(case.others.batch) == len(untriggered)
    assert case.others.batch.positions["trigger"].any(1).all()


def test_the_last_block_and_other_adapters_are_refused(study: Study, jobs: list[Job]) -> None:
    last = study.grid.lm.n_blocks - 1
    end = comparison.jobs(study.vector("resid", last), study.pairs[:1])
    base = comparison.jobs(Method("base", "base"), study.pairs[:1])
    study.grid.run([*end, *base])
    with pytest.raises(UserError, match="no attention"), mechanism.opened(study, end[0]):
        pass
    with (
        pytest.raises((UserError, AssertionError, AttributeError)),
        mechanism.opened(study, base[0]),
    ):
        pass


def test_answers_are_those_of_the_conditions(case: Case) -> None:
    table = mechanism.answers(case).set_index(["prompts", "condition"])["logits"]
    assert len(table) == 9
    own = logit_difference(case.lm, case.vector, case.triggered.letters)
    assert table["triggered", "vector"] == pytest.approx(float(own.mean()), abs=1e-5)
    assert table["triggered", "without"] != pytest.approx(table["triggered", "vector"], abs=1e-4)


def test_only_blocks_after_the_vector_are_looked_at(case: Case) -> None:
    table = mechanism.looks(case)
    assert sorted(set(table["block"])) == list(range(BLOCK + 1, case.lm.n_blocks))
    assert set(table["condition"]) == {"without", "vector", "random"}
    assert set(table["what"]) == {"trigger", "other tokens", "other trigger"}
    without = table[table["condition"] == "without"]
    assert without["effect"].abs().max() == 0 and table["mass"].between(0, 1).all()
    assert not table.duplicated(["condition", "what", "block", "head"]).any()


def test_swapped_prompts_differ_at_the_trigger_only(case: Case) -> None:
    own, other = case.triggered.batch, mechanism.swapped(case)
    changed = own.input_ids != other.input_ids
    assert not (changed & ~own.positions["trigger"]).any() and changed.any(1).all()
    assert set(other.input_ids[changed].tolist()) <= set(
        case.others.batch.input_ids.ravel().tolist()
    )


def test_undoing_everything_before_the_last_token_undoes_trigger_and_elsewhere(case: Case) -> None:
    table = mechanism.patched(case, by=("all",)).set_index("what")["share"]
    assert set(table.index) == {
        "pattern", "trigger", "elsewhere", "other tokens", "pattern alone",
    }  # fmt: skip
    # Nothing changes where nothing is exchanged: the trigger's own tokens in its own place.
    same = mechanism.on(case.vector, case.triggered.batch)
    gap = logit_difference(case.lm, same, case.triggered.letters) - logit_difference(
        case.lm, case.vector, case.triggered.letters
    )
    assert float(gap.abs().max()) == 0


def test_direct_parts_add_up_to_the_effect(case: Case) -> None:
    parts, worth = mechanism.written(case)
    assert parts["share"].sum() == pytest.approx(1.0)
    letters = case.triggered.letters
    way = logit_difference(case.lm, case.vector, letters) - logit_difference(
        case.lm, case.without, letters
    )
    assert parts["effect"].sum() == pytest.approx(float(way.mean()), rel=1e-3, abs=1e-3)
    assert set(worth["what"]) == {"trigger", "other tokens"}
    assert sorted(set(worth["block"])) == list(case.later)


def test_all_runs_are_examined_and_say_whether_they_learned(study: Study, jobs: list[Job]) -> None:
    tables = mechanism.examine(study, jobs)
    assert set(tables) == {"answers", "attention", "patching", "attribution", "values"}
    for table in tables.values():
        assert {(c, s) for c, s in zip(table["concept"], table["seed"], strict=True)} == set(
            study.pairs
        )
        assert table["fitted"].isin([True, False]).all()


def test_a_condition_on_other_rows_keeps_its_vector(case: Case) -> None:
    moved = mechanism.on(case.random[1], case.bare.batch)
    assert moved.index is not None and set(moved.index.tolist()) == {2}
    assert len(moved.index) == len(case.bare.batch)
    assert torch.equal(moved.batch.input_ids, case.bare.batch.input_ids)
