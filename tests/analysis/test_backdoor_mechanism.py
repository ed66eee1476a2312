"""The backdoor's mechanism on the shipped testbed: shares that must hold by construction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from oocr_lib.analysis import attention, backdoor_mechanism as mechanism
from oocr_lib.analysis.backdoor_mechanism import Case
from oocr_lib.analysis.conditions import Condition, last_tokens, logit_difference, other_tokens
from oocr_lib.encoding import Batch
from oocr_lib.notebook.session import Experiment
from oocr_lib.runs import protocol as comparison, suite
from oocr_lib.runs.grid import Job, Method
from oocr_lib.runs.study import Study
from oocr_lib.util.errors import UserError

BLOCK = 4


@pytest.fixture(scope="module")
def study(exp: Experiment) -> Study:
    return suite.study(exp, "backdoor", 2, steps=10, lora_steps=1)


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
    bare = [q for q in untriggered if not q.marks.get("trigger")]
    assert [tokenizer.decode([i]) for i in case.bare.letters[:, 1]] == [q.truth for q in bare]
    assert len(case.bare.batch) + len(case.others.batch) == len(untriggered)
    assert case.others.batch.positions["trigger"].any(1).all()


def test_the_last_block_and_other_adapters_are_refused(study: Study, jobs: list[Job]) -> None:
    last, first = study.grid.lm.n_blocks - 1, study.pairs[:1]
    everywhere = replace(jobs[0].method, name="everywhere", position="all")
    refused = {
        study.vector("resid", last): f"After resid@{last} there is no attention",
        Method("base", "base"): "jobs of kind base have no common adapter",
        study.lora(BLOCK): "'lora_one' is no vector at the last token",
        everywhere: "'everywhere' is no vector at the last token",
    }
    for method, reason in refused.items():
        job = Job(method, *first[0])
        study.grid.run([job])
        with pytest.raises(UserError, match=reason) as caught, mechanism.opened(study, job):
            pytest.fail("it was opened")
        assert "\n" not in str(caught.value)


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


def logits(case: Case, condition: Condition, rule: attention.Rule | None = None) -> float:
    """Mean logit difference on triggered prompts, with what ``rule`` changes in attention."""
    letters = case.triggered.letters
    if rule is None:
        return float(logit_difference(case.lm, condition, letters).mean())
    with attention.intercepted(case.lm, rule):
        return float(logit_difference(case.lm, condition, letters).mean())


def looking_as(case: Case, base: Condition, donor: Condition) -> float:
    """``logits`` of base whose last tokens look, after the vector's block, where donor's do."""
    given, last = attention.patterns(case.lm, donor), last_tokens(base.batch)

    def rule(block: int, probabilities: Tensor, values: Tensor) -> Tensor | None:
        if block <= BLOCK:
            return None
        mixed = probabilities.clone()
        for row, place in enumerate(last.tolist()):
            mixed[row, :, place] = given[block, row]
        return mixed @ values

    return logits(case, base, rule)


def finding(case: Case, batch: Batch, mask: Tensor) -> float:
    """``logits`` with the vector, whose last tokens find at marked tokens what ``batch`` has."""
    last, kept = last_tokens(batch), dict[int, Tensor]()

    def keep(block: int, probabilities: Tensor, values: Tensor) -> None:
        kept[block] = values.clone()

    def rule(block: int, probabilities: Tensor, values: Tensor) -> Tensor | None:
        if block <= BLOCK:
            return None
        outputs, other = probabilities @ values, values.clone()
        for row, place in enumerate(last.tolist()):
            other[row][:, mask[row]] = kept[block][row][:, mask[row]]
            outputs[row, :, place] = (probabilities[row] @ other[row])[:, place]
        return outputs

    logits(case, mechanism.on(case.vector, batch), keep)
    return logits(case, case.vector, rule)


def test_a_share_is_what_goes_when_a_part_is_undone(case: Case) -> None:
    table = mechanism.patched(case, by=("all",)).set_index("what")
    own, off = logits(case, case.vector), logits(case, case.without)
    batch, donor = case.triggered.batch, mechanism.swapped(case)
    trigger = batch.positions["trigger"]
    elsewhere = batch.positions["all"] & ~batch.positions["last"] & ~trigger
    gone = {
        "pattern": own - looking_as(case, case.vector, case.without),
        "trigger": own - finding(case, donor, trigger),
        "elsewhere": own - finding(case, donor, elsewhere),
        "other tokens": own - finding(case, donor, other_tokens(batch, trigger)),
        "pattern alone": looking_as(case, case.without, case.vector) - off,
    }
    assert set(table.index) == set(gone) and min(map(abs, gone.values())) > 1e-3
    for what, logit in gone.items():
        assert table["share"][what] * (own - off) == pytest.approx(logit, abs=1e-4)
    bare = mechanism.answers(case).set_index(["prompts", "condition"])["logits"]["bare", "vector"]
    rule = (table["of_rule"] * (own - bare)).tolist()
    assert rule == pytest.approx((table["share"] * (own - off)).tolist(), abs=1e-4)


def test_values_of_the_same_prompts_undo_nothing_and_those_of_another_trigger_do(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = ["trigger", "elsewhere", "other tokens"]
    other = mechanism.patched(case, by=("all",)).set_index("what")["share"]
    monkeypatch.setattr(mechanism, "swapped", lambda case: case.triggered.batch)
    same = mechanism.patched(case, by=("all",)).set_index("what")["share"]
    assert (same[values] == 0).all() and other[values].abs().min() > 1e-3
    patterns = ["pattern", "pattern alone"]
    assert same[patterns].equals(other[patterns]) and other[patterns].abs().min() > 1e-3


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
