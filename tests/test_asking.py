"""Adapters made elsewhere are asked what the grid's own runs are asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from oocr_lib.asking import ask, fixed
from oocr_lib.errors import UserError
from oocr_lib.grid import Grid, Job, Method, cross
from oocr_lib.models import LanguageModel
from oocr_lib.runs import RunStore
from oocr_lib.sites import Site
from oocr_lib.training import TrainConfig
from tests import toy

CONFIG = TrainConfig(steps=3, batch=2, lr=0.1, warmup=1, snapshot_every=2)
VECTOR = Method("vector_resid", "vector", site="resid@0", config=CONFIG)
DEEPER = Method("vector_mlp_out", "vector", site="mlp_out@1", config=CONFIG)
LORA = Method("lora_one", "lora", blocks=(1,), rank=2, config=CONFIG)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return toy.language_model()


@pytest.fixture
def grid(lm: LanguageModel, tmp_path: Path) -> Grid:
    return Grid(lm, RunStore(tmp_path), toy.make, {"task": "toy"}, "Rome")


def test_a_finished_adapter_answers_as_its_run_did(grid: Grid) -> None:
    vectors = cross([VECTOR, DEEPER], ("Paris", "Rome"), (0,))
    table = grid.run([*vectors, Job(LORA, "Rome", 0)])
    for jobs in (vectors, [Job(LORA, "Rome", 0)]):
        again = ask(grid, "natural", grid.trained(jobs), jobs, validation=True)
        before = table[table["method"].isin([job.method.name for job in jobs])]
        for column in ("p_truth", "valid_loss", "valid_accuracy"):
            assert again[column].tolist() == pytest.approx(before[column].tolist(), abs=1e-5)
        assert again["concept"].tolist() == before["concept"].tolist()
        assert set(again["method"]) == {"natural"} and again["run"].nunique() == len(jobs)


def test_only_the_families_asked_for_are_asked(grid: Grid) -> None:
    jobs = cross([VECTOR], ("Paris", "Rome"), (0,))
    grid.run(jobs)
    adapter = grid.trained(jobs)
    whole = ask(grid, "natural", adapter, jobs)
    part = ask(grid, "natural", adapter, jobs, ("place",))
    assert part["valid_loss"].isna().all()
    assert set(part["family"]) == {"place", "all"}
    expected = whole[whole["family"] == "place"]["p_truth"].tolist()
    assert part[part["family"] == "place"]["p_truth"].tolist() == pytest.approx(expected)
    with pytest.raises(UserError, match="colour"):
        ask(grid, "natural", adapter, jobs, ("colour",))


def test_fixed_vectors_are_added_as_they_are(grid: Grid) -> None:
    raw = torch.randn(3, grid.lm.d_model)
    adapter = fixed(raw, Site(1, "resid"), "codename")
    assert torch.equal(adapter.vectors, raw) and adapter.position == "codename"
    assert {str(site) for site in adapter.sites} == {"resid@1"}
    raw.zero_()
    assert float(adapter.vectors.abs().sum()) > 0


@pytest.mark.parametrize("position", ["codename", "last"])
@pytest.mark.parametrize("site", ["resid@0", "mlp_out@1", "resid@1"])
def test_what_is_taken_over_changes_no_answer(
    lm: LanguageModel, tmp_path: Path, position: str, site: str
) -> None:
    jobs = cross([VECTOR], ("Paris", "Rome"), (0,))
    adapter = fixed(3 * torch.randn(2, lm.d_model), Site.parse(site), position)
    tables = []
    for reuse in (True, False):
        grid = Grid(lm, RunStore(tmp_path), toy.make, {}, "Rome", reuse=reuse)
        tables += [ask(grid, "natural", adapter, jobs, validation=True) for _ in range(2)]
    for other in tables[1:]:
        for column in ("p_truth", "mc", "valid_loss", "valid_accuracy"):
            assert other[column].tolist() == pytest.approx(tables[0][column].tolist(), abs=1e-5)
