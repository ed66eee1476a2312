"""The block that others chose on other questions: planted flattery does not pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from oocr_lib.analysis import block_choice
from oocr_lib.runs import presets, protocol
from oocr_lib.runs.grid import Job
from oocr_lib.runs.presets import Settings
from oocr_lib.runs.study import Study
from oocr_lib.training.loop import TrainConfig
from oocr_lib.util.errors import UserError

CONFIG = TrainConfig()
BLOCKS = range(4)
SEEDS = range(4)
IDS = [f"risk-{number}-{order}" for number in range(6) for order in (0, 1)]


class FakeGrid:
    """Scores by (seed, block, number of the wording)."""

    def __init__(self, score: Any) -> None:
        self.score = score

    def questions(self, jobs: list[Job]) -> pd.DataFrame:
        rows = []
        for job in jobs:
            block = block_choice.block_of(job)
            for name in IDS:
                value = self.score(job.seed, block, int(name.split("-")[1]))
                told = {"family": "risk", "id": name, "p_truth": value, "mc": float(value > 0.5)}
                other = {"family": "patience", "id": "patience-0-0", "p_truth": 1.0, "mc": 1.0}
                named = {"method": job.method.name, "concept": job.concept, "seed": job.seed}
                rows += [{**named, **told}, {**named, **other}]
        return pd.DataFrame(rows)


def fitted(score: Any, **options: Any) -> pd.DataFrame:
    grid: Any = FakeGrid(score)
    jobs = [
        Job(protocol.vector("resid", block, CONFIG), policy, seed)
        for block in BLOCKS
        for seed in SEEDS
        for policy in ("risky", "safe")
    ]
    how: dict[str, Any] = {"measure": "p_truth", "by": "seed"} | options
    return block_choice.cross_fitted(grid, jobs, ["risk"], 0, **how)


def test_a_block_that_is_better_on_all_questions_is_found_and_measured() -> None:
    found = fitted(lambda seed, block, number: 0.9 if block == 2 else 0.6)
    assert set(found["block"]) == {2} and len(found) == 8
    assert found["value"].tolist() == pytest.approx([0.9] * 8)
    assert found["at_lowest_loss"].tolist() == pytest.approx([0.6] * 8)
    assert found["gain"].tolist() == pytest.approx([0.3] * 8)


def test_a_block_that_is_good_on_the_choosing_questions_alone_does_not_look_good() -> None:
    """Planted: block 3 is perfect on every second wording and fails on the others."""
    found = fitted(lambda seed, block, number: float(number % 2 == 0) if block == 3 else 0.45)
    chosen = found.set_index(["seed", "concept"])["block"]
    assert set(chosen[[0, 2]]) != set(chosen[[1, 3]]), "one half of the questions likes it"
    misled = found[found["block"] == 3]
    assert len(misled) == 4 and misled["value"].tolist() == [0.0] * 4
    assert found["value"].mean() < 0.3 < 0.7 < found["flattering"].mean()


def test_a_seed_does_not_choose_its_own_block() -> None:
    """Planted: each half of the seeds has a block of its own that the other half lacks."""
    found = fitted(lambda seed, block, number: float(block == seed % 2))
    assert found["value"].tolist() == [0.0] * 8 and found["flattering"].tolist() == [1.0] * 8


def test_noise_alone_is_no_gain() -> None:
    rng = np.random.default_rng(0)
    values, flattering = [], []
    for _ in range(100):
        noise = {(s, b, n): rng.normal() for s in SEEDS for b in BLOCKS for n in range(6)}
        found = fitted(lambda *key, noise=noise: noise[key])
        values.append(found["value"].mean())
        flattering.append(found["flattering"].mean())
    assert abs(np.mean(values)) < 0.1 < 0.2 < np.mean(flattering)


def test_both_orders_of_a_wording_stay_together() -> None:
    assert block_choice.wording("risk-3-0") == block_choice.wording("risk-3-1") == "risk-3"
    assert block_choice.scenario("re-re-re-7") == block_choice.scenario("win-7") == "7"


def test_what_cannot_be_halved_is_refused() -> None:
    with pytest.raises(UserError, match=r"unit \['all'\] cannot be halved"):
        fitted(lambda *key: 0.5, unit=lambda name: "all")
    lora = protocol.lora("all", CONFIG)
    with pytest.raises(UserError, match="no block of its own"):
        block_choice.block_of(Job(lora, "risky", 0))
    assert block_choice.block_of(Job(protocol.lora([3], CONFIG), "risky", 0)) == 3


def test_a_sweep_is_judged_kind_by_kind_where_there_are_two_runs() -> None:
    grid: Any = FakeGrid(lambda seed, block, number: 0.9 if block == 2 else 0.6)
    settings = Settings(presets.laptop(sweep_runs=4, lora_runs=1))
    made = Study(grid, settings, BLOCKS, [("risky", seed) for seed in SEEDS], "last")
    made.block = {"resid": 2, "mlp_out": 0, "lora": 1}
    found = block_choice.of_sweep(made, ["risk"], measure="p_truth", by="seed")
    gains = found.groupby("method")["gain"].mean()
    assert gains.to_dict() == pytest.approx({"vector_resid": 0.0, "vector_mlp_out": 0.3})


@pytest.mark.parametrize(
    ("concepts", "expected"),
    [
        (["Oslo"], []),
        (["Oslo", "Oslo"], []),  # two seeds of one city are no two halves
        (["Oslo", "Oslo", "Lima"], ["resid", "mlp_out"]),  # LoRAs have the first two runs
        (["Oslo", "Lima"], ["resid", "mlp_out", "lora"]),
    ],
)
def test_one_concept_has_no_other_half(concepts: list[str], expected: list[str]) -> None:
    grid: Any = FakeGrid(None)
    settings = Settings(presets.laptop(sweep_runs=3, lora_runs=2))
    pairs = list(zip(concepts, SEEDS, strict=False))
    assert block_choice.kinds(Study(grid, settings, BLOCKS, pairs, "last")) == expected
