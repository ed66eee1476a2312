"""The protocol: choices by validation alone, every method and control on the same runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from oocr_lib.report.metrics import METHODS
from oocr_lib.runs import presets
from oocr_lib.runs.grid import Grid, Job, Method
from oocr_lib.runs.presets import Settings
from oocr_lib.runs.store import RunStore
from oocr_lib.runs.study import Study
from oocr_lib.training.loop import TrainConfig
from tests import toy

BLOCKS = [0, 1, 2, 3]
PAIRS = [("Paris", 0), ("Rome", 1), ("Oslo", 2), ("Paris", 1), ("Rome", 2)]
#: Block of lowest validation loss by what is trained there; questions prefer block 0 everywhere.
BEST = {"resid": 2, "mlp_out": 3, "lora": 1}
#: The other tried rates answer the questions better.
BEST_RATE = 0.01


def where(method: Method) -> tuple[str, int]:
    """Site and block as the table of runs has them."""
    if method.site:
        site, block = method.site.split("@")
        return site, int(block)
    single = method.kind == "lora" and method.blocks != "all"
    return method.kind, int(method.blocks[0]) if single else -1


class FakeGrid:
    """Answers every job with planted losses and scores, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked = list[Job]()
        self.lm = SimpleNamespace(dialect="testbed")

    def run(self, jobs: list[Job], label: str = "") -> pd.DataFrame:
        self.asked += jobs
        rows = []
        for job in jobs:
            site, block = where(job.method)
            loss = abs(block - BEST.get(site, block)) + 10 * abs(job.method.config.lr - BEST_RATE)
            rows += [
                {
                    "method": job.method.name, "site": site, "block": block,
                    "lr": job.method.config.lr, "concept": job.concept, "seed": job.seed,
                    "family": family, "valid_loss": loss + 0.01 * job.seed,
                    "mc": 1 - max(block, 0) / 9 + job.method.config.lr,
                    "length": 0.5 + job.seed, "run": str(job),
                }
                for family in ("name", "all")
            ]  # fmt: skip
        return pd.DataFrame(rows)


def study(**changes: Any) -> Study:
    settings = Settings(presets.laptop(sweep_runs=3, lora_runs=2, lora_lrs=[0.003, 0.01, 0.03]))
    settings.update(changes)
    fake: Any = FakeGrid()
    concepts, strata = ["Paris", "Rome"], ["template"]
    return Study(fake, settings, BLOCKS, PAIRS, "codename", drawn_from=concepts, strata=strata)


def asked(made: Study) -> list[Job]:
    grid: Any = made.grid
    return list(grid.asked)


# --- the sweep ---


def test_blocks_are_chosen_by_validation_loss_not_by_the_questions() -> None:
    made = study()
    table = made.sweep()
    assert made.block == BEST
    for site, part in table[table["family"] == "all"].groupby("site"):
        by_question = part.groupby("block")["mc"].mean().idxmax()
        assert by_question == 0 != made.block[str(site)]


def test_the_sweep_tries_every_block_on_the_first_pairs() -> None:
    made = study()
    table = made.sweep()
    tried = Counter((*where(job.method), job.concept, job.seed) for job in asked(made))
    expected = {
        (site, block, concept, seed): 1
        for site, runs in (("resid", 3), ("mlp_out", 3), ("lora", 2))
        for block in BLOCKS
        for concept, seed in PAIRS[:runs]
    }
    assert tried == expected
    assert len(table) == 2 * len(expected)


def test_only_the_blocks_of_the_sweep_are_tried() -> None:
    made = study()
    made.blocks = [0, 3]
    made.sweep()
    assert {where(job.method)[1] for job in asked(made)} == {0, 3}
    assert made.block == {"resid": 3, "mlp_out": 3, "lora": 0}


# --- what is trained ---


def test_vectors_are_trained_as_the_settings_say() -> None:
    made = study(steps=7, batch=5, vector_lr=0.4, warmup=3, schedule="constant")
    made.settings.update(vector_raw=True, vector_init=1.0)
    found = made.vector("mlp_out", 2)
    assert found == Method(
        "vector_mlp_out", "vector", site="mlp_out@2", position="codename", raw=True, init=1.0,
        config=TrainConfig(steps=7, batch=5, lr=0.4, warmup=3, schedule="constant"),
    )  # fmt: skip
    made.position = "last"
    assert made.vector("resid", 0).position == "last"


def test_loras_are_trained_as_the_settings_say() -> None:
    made = study(lora_steps=9, lora_batch=6, lora_lr=0.2, rank=3, alpha=5.0, dropout=0.25)
    config = TrainConfig(steps=9, batch=6, lr=0.2, warmup=5, schedule="linear")
    found = made.lora(1)
    assert found == Method(
        "lora_one", "lora", blocks=(1,), rank=3, alpha=5.0, dropout=0.25, config=config
    )
    made.settings.update(rank_all=2)
    every, _ = made.lora_all()
    assert (every.name, every.blocks) == ("lora_all", "all")
    assert (every.rank, every.alpha, every.dropout) == (2, 5.0, 0.25)
    assert (every.config.steps, every.config.batch) == (9, 6)


def test_the_rate_of_the_all_block_lora_is_chosen_by_validation_loss() -> None:
    made = study()
    method, table = made.lora_all()
    assert method.config.lr == BEST_RATE
    assert set(table["lr"]) == {0.003, 0.01, 0.03}
    assert table.groupby("lr")["mc"].mean().idxmax() == 0.03, "the questions prefer another rate"
    assert Counter((j.concept, j.seed) for j in asked(made)) == dict.fromkeys(PAIRS[:2], 3)


# --- the comparison ---


@pytest.fixture
def compared() -> tuple[Study, Method, pd.DataFrame]:
    made = study()
    made.sweep()
    lora_all, _ = made.lora_all()
    made.grid.asked.clear()  # type: ignore[attr-defined]
    return made, lora_all, made.compare(lora_all)


def test_every_method_and_control_runs_on_every_pair(
    compared: tuple[Study, Method, pd.DataFrame],
) -> None:
    _, _, table = compared
    names = ["base", "lora_one", "lora_all", "vector_mlp_out", "vector_resid"]
    names += ["random_answers", "random"]
    assert list(dict.fromkeys(table["method"])) == names and set(names) <= set(METHODS)
    for _, part in table[table["family"] == "all"].groupby("method"):
        assert list(zip(part["concept"], part["seed"], strict=True)) == PAIRS


def test_methods_sit_at_the_chosen_blocks_and_controls_at_that_of_the_residual_vector(
    compared: tuple[Study, Method, pd.DataFrame],
) -> None:
    made, lora_all, table = compared
    methods = {job.method.name: job.method for job in asked(made)}
    assert methods["vector_resid"] == made.vector("resid", 2)
    assert methods["vector_mlp_out"] == made.vector("mlp_out", 3)
    assert methods["lora_one"] == made.lora(1) and methods["lora_all"] == lora_all
    assert methods["base"].kind == "base"
    mixed, drawn = methods["random_answers"], methods["random"]
    assert mixed.random_answers and (mixed.kind, mixed.site) == ("vector", "resid@2")
    assert (mixed.drawn_from, mixed.strata) == (("Paris", "Rome"), ("template",))
    assert mixed.config == made.vector_config
    assert (drawn.kind, drawn.site, drawn.position) == ("random", "resid@2", "codename")
    resid = table[(table["method"] == "vector_resid") & (table["family"] == "all")]
    assert drawn.length == pytest.approx(resid["length"].mean()) and drawn.length > 1


def test_all_jobs_of_the_comparison_are_kept_once(
    compared: tuple[Study, Method, pd.DataFrame],
) -> None:
    made, lora_all, _ = compared
    assert made.jobs == asked(made) and len(made.jobs) == 7 * len(PAIRS)
    made.compare(lora_all)
    assert len(made.jobs) == 7 * len(PAIRS), "a cell may be run again"


# --- for real ---


@pytest.fixture
def real(tmp_path: Path) -> Callable[..., Study]:
    def make(**changes: Any) -> Study:
        few = {"steps": 2, "lora_steps": 1, "batch": 2, "lora_batch": 2, "lora_lrs": [0.01, 0.02]}
        settings = Settings(presets.laptop(sweep_runs=1, lora_runs=1, rank=2, rank_all=2, **few))
        settings.update(changes)
        grid = Grid(toy.language_model(), RunStore(tmp_path), toy.make, {"task": "toy"}, "Rome")
        return Study(grid, settings, [0, 1], [("Paris", 0), ("Rome", 1)], "codename")

    return make


@pytest.mark.parametrize("paper", [False, True])
def test_the_whole_protocol_on_a_tiny_model(real: Callable[..., Study], paper: bool) -> None:
    changes = presets.paper("risk") if paper else {}
    few = {"steps": 2, "lora_steps": 1, "sweep_runs": 1, "lora_runs": 1, "rank": 2, "rank_all": 2}
    made = real(**{**changes, **few} if paper else {})
    sweeps = made.sweep()
    assert set(made.block) == {"resid", "mlp_out", "lora"} and set(made.block.values()) <= {0, 1}
    for site, block in made.block.items():
        part = sweeps[(sweeps["site"] == site)].drop_duplicates("run")
        assert part.groupby("block")["valid_loss"].mean().idxmin() == block
    lora_all, _ = made.lora_all()
    table = made.compare(lora_all)
    assert table["method"].nunique() == 7 and not table[["mc", "valid_loss"]].isna().any().any()
    assert len(made.grid.questions(made.jobs)) == 14 * 3
    drawn = table[table["method"] == "random"].drop_duplicates("run")["length"]
    trained = table[table["method"] == "vector_resid"].drop_duplicates("run")["length"]
    assert drawn.tolist() == pytest.approx([trained.mean()] * 2, rel=1e-3)


def test_rates_are_chosen_for_a_model_that_the_settings_were_not_made_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = toy.language_model()
    settings = Settings(presets.laptop(steps=2, lora_steps=2, sweep_runs=1))
    made = {}
    for dialect in ("testbed", "paper"):
        object.__setattr__(lm, "dialect", dialect)
        grid = Grid(lm, RunStore(tmp_path), toy.make, {"task": "toy"}, "Paris")
        study = made[dialect] = Study(grid, settings, [0, 1, 2], PAIRS, "codename")
        tried = study.fit()
        if dialect == "testbed":
            assert tried is None and study.settings is settings and not capsys.readouterr().out
            continue
        assert tried is not None
        for key, method in (("vector_lr", "vector_resid"), ("lora_lr", "lora_one")):
            mine = tried[tried["method"] == method]
            assert set(mine["block"]) == {1} and len({*mine["lr"]}) == 3
            assert mine["lr"].max() == pytest.approx(settings[key])
            best = mine.groupby("lr")["valid_loss"].mean().idxmin()
            assert study.settings[key] == pytest.approx(best)
        chosen = dict(study.settings)
        assert study.fit() is None and dict(study.settings) == chosen, "rates do not shrink again"
        said = capsys.readouterr().out
        assert "rates by validation loss at block 1" in said and "minutes" in said
    raw = Settings({**settings, "vector_raw": True})
    assert Study(made["paper"].grid, raw, [0, 1], PAIRS, "codename").fit() is None


def test_a_deep_model_is_swept_evenly() -> None:
    assert presets.blocks(8, "laptop") == list(range(8))
    assert presets.blocks(30, "laptop") == [0, 3, 6, 10, 13, 16, 19, 23, 26, 29]
    assert presets.blocks(30, "paper") == list(range(30))
