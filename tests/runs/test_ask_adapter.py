"""Adapters made elsewhere are asked what the grid's own runs are asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from oocr_lib.adapters import VectorAdapter
from oocr_lib.evaluation.scores import score, summarise
from oocr_lib.models.language_model import LanguageModel
from oocr_lib.models.sites import Site
from oocr_lib.runs import ask_adapter as asking
from oocr_lib.runs.ask_adapter import ask, fixed
from oocr_lib.runs.grid import Grid, Job, Method, cross
from oocr_lib.runs.store import RunStore
from oocr_lib.training.loop import RunData, TrainConfig, validate
from oocr_lib.util.errors import UserError
from tests import toy
from tests.adapter_cases import fingerprint

CONFIG = TrainConfig(steps=3, batch=2, lr=0.1, warmup=1, snapshot_every=2)
VECTOR = Method("vector_resid", "vector", site="resid@0", config=CONFIG)
DEEPER = Method("vector_mlp_out", "vector", site="mlp_out@1", config=CONFIG)
NUMBERS = ["mc", "top1", "p_truth", "rank", "valid_loss", "valid_accuracy"]
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


def alone(grid: Grid, job: Job, vector: Tensor | None, site: str, seed: int) -> pd.DataFrame:
    """What a vector (d,), attached here by itself at another scale, gives; None: the base model."""
    encoded, limit = grid.task(job.concept, job.seed), job.method.config.valid_rows
    data = [RunData([], encoded.valid, seed)]
    if vector is None:
        table, checked = score(grid.lm, encoded.questions), validate(grid.lm, None, data, limit)
    else:
        adapter = VectorAdapter([site], grid.lm.d_model, "codename", [2.5])
        adapter.theta.data.copy_(vector[None] / 2.5)
        with adapter.attach(grid.lm) as attached:
            table = score(grid.lm, encoded.questions, attached)
            checked = validate(grid.lm, attached, data, limit)
    ends = {"valid_loss": float(checked[0][0]), "valid_accuracy": float(checked[1][0])}
    return pd.DataFrame([{"family": f, **m, **ends} for f, m in summarise(table).items()])


FEW = Method("vector_resid", "vector", site="resid@0", config=replace(CONFIG, valid_rows=3))


@pytest.mark.parametrize("site", ["resid@1", "attn_out@2"])
def test_each_vector_answers_as_if_it_were_attached_alone_on_its_own_rows(
    grid: Grid, site: str
) -> None:
    jobs = [Job(FEW, concept, seed) for seed, concept in enumerate(("Paris", "Rome", "Oslo"))]
    vectors = 4 * torch.randn(3, grid.lm.d_model, generator=torch.Generator().manual_seed(1))
    adapter = fixed(vectors, Site.parse(site), "codename")
    found = ask(grid, "fixed", adapter, jobs, validation=True)
    assert found["family"].tolist() == ["name", "place", "all"] * 3
    others = []
    for k, job in enumerate(jobs):
        part = found[found["run"] == f"fixed {k}"]
        expected = alone(grid, job, vectors[k], site, job.seed)
        assert part["family"].tolist() == expected["family"].tolist()
        assert set(part["concept"]) == {job.concept} and set(part["seed"]) == {job.seed}
        assert part[NUMBERS].to_numpy() == pytest.approx(expected[NUMBERS].to_numpy(), abs=1e-4)
        other = alone(grid, job, vectors[k], site, job.seed + 1)
        others.append(float((other["valid_loss"] - expected["valid_loss"]).abs().max()))
    assert found["valid_loss"].nunique() == 3 and found["p_truth"].nunique() > 6
    assert max(others) > 1e-3, "the rows are those that the run's own seed picks"


def test_a_zero_vector_is_the_base_model_exactly(lm: LanguageModel, tmp_path: Path) -> None:
    grid = Grid(lm, RunStore(tmp_path), toy.make, {}, "Rome", reuse=False)
    job = Job(VECTOR, "Rome", 0)
    zero = fixed(torch.zeros(1, lm.d_model), Site(1, "resid"), "codename")
    found = ask(grid, "zero", zero, [job], validation=True)
    columns = ["family", *NUMBERS]
    assert found[columns].equals(alone(grid, job, None, "resid@1", job.seed)[columns])


def test_asking_leaves_model_and_vectors_as_they_were_also_after_an_error(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, raw = fingerprint(grid.lm.model), torch.randn(1, grid.lm.d_model)
    kept, jobs = raw.clone(), [Job(VECTOR, "Rome", 0)]
    adapter = fixed(raw, Site(1, "resid"), "codename")
    ask(grid, "fixed", adapter, jobs, validation=True)
    assert fingerprint(grid.lm.model) == before
    assert torch.equal(raw, kept) and torch.equal(adapter.vectors, kept)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("inside")

    monkeypatch.setattr(asking, "validate", fail)
    with pytest.raises(RuntimeError, match="inside"):
        ask(grid, "fixed", adapter, jobs, validation=True)
    assert fingerprint(grid.lm.model) == before
    with pytest.raises(UserError, match="code"):
        fixed(raw, Site(1, "resid"), "code")
