"""Percentiles count ties half; every direction is as long as what is trained."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.analysis import random_directions
from oocr_lib.models.sites import Site
from oocr_lib.runs import ask_adapter, protocol
from oocr_lib.runs.grid import Grid
from oocr_lib.runs.presets import LAPTOP, Settings
from oocr_lib.runs.store import RunStore
from oocr_lib.runs.study import Study
from oocr_lib.util.errors import UserError
from tests import toy


@pytest.fixture
def study(tmp_path: Path) -> Study:
    grid = Grid(toy.language_model(), RunStore(tmp_path), toy.make, {}, "Rome")
    few = {"steps": 3, "batch": 4, "rank": 2, "lora_steps": 2}
    return Study(grid, Settings({**LAPTOP, **few}), [0], [("Rome", 0), ("Oslo", 1)], "codename")


def by_family(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["family"] == "name"].assign(accuracy=table["p_truth"])


def test_percentile() -> None:
    assert random_directions.percentile(0.5, [0.1, 0.5, 0.9, 0.2]) == 0.625
    assert random_directions.percentile(1.0, [0.1] * 50) == 1.0
    with pytest.raises(UserError, match="among 0 values"):
        random_directions.percentile(1.0, [])


def test_many_vectors_at_once_answer_as_each_alone(study: Study) -> None:
    job = protocol.jobs(study.vector("resid", 0), study.pairs[:1])[0]
    vectors = 3 * torch.randn(3, study.grid.lm.d_model, generator=torch.Generator().manual_seed(0))
    adapter = ask_adapter.fixed(vectors, study_site(study), "codename")
    together = ask_adapter.ask_each(study.grid, "m", adapter, job, ("name",))
    together = together[together.family == "name"]
    for k, vector in enumerate(vectors):
        one = ask_adapter.fixed(vector[None], study_site(study), "codename")
        alone = ask_adapter.ask(study.grid, "m", one, [job], ("name",))
        alone = alone[alone.family == "name"]
        assert together.iloc[k]["p_truth"] == pytest.approx(alone.iloc[0]["p_truth"], abs=1e-5)
    assert together["run"].is_unique
    with pytest.raises(UserError, match="No question of families"):
        ask_adapter.ask_each(study.grid, "m", adapter, job, ("colour",))


def study_site(study: Study) -> Site:
    adapter = study.grid.adapter(protocol.jobs(study.vector("resid", 0), study.pairs[:1]))
    assert isinstance(adapter, VectorAdapter)
    return adapter.sites[0]


def test_a_run_stands_among_its_own_directions(study: Study) -> None:
    method = study.vector("resid", 0)
    found = random_directions.among(study, method, study.pairs, by_family, ("name",), count=8)
    assert list(found["concept"]) == ["Rome", "Oslo"]
    for row in found.itertuples():
        assert 0 <= row.percentile <= 1 and row.above in {k / 8 for k in range(9)}
    again = random_directions.among(study, method, study.pairs, by_family, ("name",), count=8)
    pd.testing.assert_frame_equal(found, again)
    with pytest.raises(UserError, match="is a lora"):
        random_directions.among(study, study.lora(0), study.pairs, by_family)
