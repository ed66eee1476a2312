"""Conditions differ from the usual LoRA in one thing each, and are measured as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from oocr_lib.analysis import lora_conditions, lora_constancy
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.runs.grid import Grid
from oocr_lib.runs.presets import LAPTOP, Settings
from oocr_lib.runs.store import RunStore
from oocr_lib.runs.study import Study
from tests import toy

FEW = {"lora_steps": 3, "lora_batch": 4, "rank": 2}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    lm: LanguageModel = toy.language_model()
    grid = Grid(lm, RunStore(tmp_path), toy.make, {}, "Rome")
    return Study(grid, Settings({**LAPTOP, **FEW}), [0, 1], [("Rome", 0), ("Oslo", 1)], "codename")


def test_each_condition_changes_one_thing(study: Study) -> None:
    listed = lora_conditions.conditions(study, 0, rates=[0.1], steps=[1], ranks=[1], blocks=[1])
    usual = study.lora(0)
    changes = {
        "rate": lambda m: replace(m, config=replace(m.config, lr=usual.config.lr)),
        "steps": lambda m: replace(m, config=replace(m.config, steps=usual.config.steps)),
        "rank": lambda m: replace(m, rank=usual.rank),
        "block": lambda m: replace(m, blocks=usual.blocks),
        "tokens": lambda m: replace(m, lora_position="all"),
        "batch": lambda m: replace(m, config=replace(m.config, batch=usual.config.batch)),
        "decay": lambda m: replace(m, config=replace(m.config, weight_decay=0.0)),
    }
    assert {one.what for one in listed} == set(changes)
    for one in listed:
        assert changes[one.what](one.method) == usual, one
        assert one.nulls == (one.what == "block")
    with_two = ("rate", "steps", "rank", "block", "tokens")
    assert all(sum(one.what == what for one in listed) == 2 for what in with_two)
    assert sum(one.method == usual for one in listed) == 5, "the usual one stands in every list"


def test_every_condition_is_looked_into_on_every_run(study: Study) -> None:
    listed = lora_conditions.conditions(study, 0, rates=[], steps=[], ranks=[], blocks=[1])
    kept = [one for one in listed if one.what in ("block", "tokens")]
    texts = lora_constancy.unrelated(study.grid.lm)[:2]
    seen, told = lora_conditions.examine(study, kept, texts, prompts=3)
    assert set(seen["place"]) == {"module"}
    counts = seen[seen.tokens == "questions"].groupby(["what", "value"])["who"].value_counts()
    for value in ("0", "1"):
        found = counts["block", value].to_dict()
        assert found == dict.fromkeys(("LoRA", "random answers", "random LoRA", "inputs"), 2)
    assert set(counts["tokens", "where read"].index) == {"LoRA", "random LoRA", "inputs"}
    # A LoRA at the code name adds nothing elsewhere.
    own = seen[(seen.value == "where read") & (seen.who == "LoRA")].set_index("tokens")
    assert own.loc["other", "signed"].isna().all() and own.loc["questions", "signed"].notna().all()
    assert set(told["method"]) == {"lora_one", "random_answers"}
    assert not seen.duplicated(["what", "value", "who", "tokens", "run"]).any()
