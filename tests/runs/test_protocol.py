"""Equal terms: blocks and rates by validation, runs in turn, intervals by concept."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from oocr_lib.runs import protocol as comparison
from oocr_lib.runs.grid import Job, Method
from oocr_lib.training.loop import TrainConfig
from oocr_lib.util.errors import UserError
from oocr_lib.util.statistics import bootstrap

CONFIG = TrainConfig(lr=0.05)
VECTOR = comparison.vector("resid", 2, CONFIG)
PAIRS = [("Paris", 0), ("Rome", 1)]


class FakeGrid:
    """Answers every job with a planted validation loss and keeps what it was asked."""

    def __init__(self, loss: Any) -> None:
        self.loss, self.asked, self.labels = loss, list[Job](), list[str]()

    def run(self, jobs: list[Job], label: str) -> pd.DataFrame:
        self.asked += jobs
        self.labels.append(label)
        rows = []
        for number, job in enumerate(jobs):
            block = int(job.method.site.split("@")[1])
            for family in ("name", "all"):
                rows.append(
                    {
                        "run": f"{job.method.site}{job.method.config.lr}{number}",
                        "block": block,
                        "lr": job.method.config.lr,
                        "concept": job.concept,
                        "seed": job.seed,
                        "method": job.method.name,
                        "family": family,
                        "valid_loss": self.loss(job),
                        "mc": 1 - block / 9,  # questions would always choose block 0
                    }
                )
        return pd.DataFrame(rows)


# --- methods ---


def test_methods_have_the_names_of_the_metrics() -> None:
    assert (VECTOR.name, VECTOR.site, VECTOR.position) == ("vector_resid", "resid@2", "codename")
    assert comparison.vector("mlp_out", 0, CONFIG, "last").name == "vector_mlp_out"
    assert comparison.lora([3], CONFIG).name == "lora_one"
    assert comparison.lora("all", CONFIG).name == comparison.lora([0, 1], CONFIG).name == "lora_all"
    shaped = comparison.lora("all", CONFIG, rank=4, modules=("up", "down"))
    assert (shaped.rank, shaped.modules, shaped.blocks) == (4, ("up", "down"), "all")


def test_the_shuffled_control_differs_in_its_answers_only() -> None:
    mixed = comparison.shuffled(VECTOR)
    assert mixed == Method(
        "shuffled", "vector", site="resid@2", position="codename", config=CONFIG, shuffled=True
    )


def test_the_control_with_random_answers_says_where_they_come_from() -> None:
    drawn = comparison.random_answers(VECTOR, ["Paris", "Rome"], ["template"])
    assert (drawn.name, drawn.random_answers, drawn.shuffled) == ("random_answers", True, False)
    assert (drawn.drawn_from, drawn.strata) == (("Paris", "Rome"), ("template",))
    plain = comparison.random_answers(VECTOR)
    assert (plain.drawn_from, plain.strata) == ((), ()) and plain.site == VECTOR.site


def test_the_random_control_is_as_long_as_the_trained_vectors_are_on_average() -> None:
    rows = [("a", 1.0), ("a", 1.0), ("b", 4.0)]  # two families of run a count once
    table = pd.DataFrame(rows, columns=["run", "length"])
    drawn = comparison.random_like(table, VECTOR)
    assert (drawn.name, drawn.kind, drawn.length) == ("random", "random", 2.5)
    assert (drawn.site, drawn.position) == (VECTOR.site, VECTOR.position)


# --- which runs ---


@given(st.integers(1, 12), st.integers(1, 6), st.data())
def test_every_concept_comes_before_any_comes_twice(
    concepts: int, seeds: int, data: st.DataObject
) -> None:
    runs = data.draw(st.integers(1, concepts * seeds))
    names = [f"city {number}" for number in range(concepts)]
    pairs = comparison.rotation(names, range(seeds), runs)
    assert len(set(pairs)) == len(pairs) == runs
    by_concept = Counter(concept for concept, _ in pairs)
    assert max(by_concept.values()) - min(by_concept.get(name, 0) for name in names) <= 1
    if runs >= seeds and concepts >= seeds:
        assert len({seed for _, seed in pairs}) == seeds


def test_twelve_runs_over_eight_cities_use_three_seeds_evenly() -> None:
    pairs = comparison.rotation([f"city {n}" for n in range(8)], (0, 1, 2), 12)
    assert len({concept for concept, _ in pairs}) == 8
    counts = Counter(seed for _, seed in pairs)
    assert set(counts) == {0, 1, 2} and min(counts.values()) >= 3


@pytest.mark.parametrize("runs", [0, -1, 7])
def test_more_runs_than_pairs_are_refused(runs: int) -> None:
    with pytest.raises(UserError, match=f"{runs} runs.*1 to 6") as caught:
        comparison.rotation(("a", "b"), (0, 1, 2), runs)
    assert "\n" not in str(caught.value)


def test_one_job_a_pair() -> None:
    assert comparison.jobs(VECTOR, PAIRS) == [Job(VECTOR, "Paris", 0), Job(VECTOR, "Rome", 1)]


# --- choices ---


def test_a_sweep_runs_every_block_on_every_pair_and_validation_chooses() -> None:
    grid: Any = FakeGrid(lambda job: abs(int(job.method.site[-1]) - 2))
    table = comparison.sweep(
        grid, lambda b: comparison.vector("resid", b, CONFIG), range(4), PAIRS, "blocks"
    )
    assert len(grid.asked) == len(set(grid.asked)) == 8 and grid.labels == ["blocks"]
    assert comparison.choose_block(table) == 2  # not block 0, which answers questions best
    assert isinstance(comparison.choose_block(table), int)


def test_the_rate_is_chosen_by_mean_validation_loss() -> None:
    losses = {0.01: (1.0, 1.0), 0.02: (0.0, 1.5), 0.05: (0.6, 1.2)}
    grid: Any = FakeGrid(lambda job: losses[job.method.config.lr][job.seed])
    chosen, table = comparison.choose_rate(grid, VECTOR, list(losses), PAIRS, "rates")
    assert chosen == comparison.vector("resid", 2, TrainConfig(lr=0.02))
    assert set(table["lr"]) == set(losses) and len(grid.asked) == 6


# --- intervals ---


def table_of_runs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"concept": c, "seed": s, "method": m, "family": f, "mc": rng.random(), "top1": float(s)}
        for c in ("Paris", "Rome", "Oslo")
        for s in range(4)
        for m in ("base", "vector_resid")
        for f in ("name", "all")
    ]
    return pd.DataFrame(rows)


def test_intervals_are_drawn_concept_by_concept() -> None:
    table = pd.DataFrame(
        {"concept": ["a"] * 5 + ["b"] * 5, "mc": [0, 0.1, 0, 0.1, 0, 1, 0.9, 1, 0.9, 1]}
    )
    found = comparison.interval(table, "mc")
    assert found == bootstrap(table["mc"], groups=table["concept"])
    alone = bootstrap(table["mc"])
    assert found.n == 10 and found.high - found.low > 1.3 * (alone.high - alone.low)


@pytest.mark.parametrize("by", [["method"], ["family", "method"], ("seed",)])
def test_one_interval_for_each_value(by: list[str]) -> None:
    table = table_of_runs()
    found = comparison.intervals(table, by, "mc")
    assert list(found.columns) == [*by, "value", "low", "high", "n"]
    assert len(found) == len(table.drop_duplicates(list(by)))
    for row in found.to_dict("records"):
        part = table
        for column in by:
            part = part[part[column] == row[column]]
        assert row["value"] == pytest.approx(part["mc"].mean()) and row["n"] == len(part)
        assert row["low"] <= row["value"] <= row["high"]


def two_policies() -> pd.DataFrame:
    """Runs of one seed agree over both policies, seeds differ."""
    rows = [
        {"concept": concept, "seed": seed, "method": "m", "family": "f", "mc": seed / 4}
        for concept in ("risky", "safe")
        for seed in range(5)
    ]
    return pd.DataFrame(rows)


def test_intervals_can_be_drawn_seed_by_seed() -> None:
    """Two policies are no sample of concepts; what varies from run to run is the seed."""
    table = two_policies()
    by_seed = comparison.interval(table, "mc", by="seed")
    assert by_seed == bootstrap(table["mc"], groups=table["seed"])
    by_concept = comparison.interval(table, "mc")
    assert by_concept == bootstrap(table["mc"], groups=table["concept"])
    assert by_seed.value == by_concept.value == 0.5 and by_seed.n == 10
    assert by_seed.high - by_seed.low > by_concept.high - by_concept.low


def test_a_table_of_intervals_can_be_drawn_seed_by_seed() -> None:
    table = two_policies()
    (row,) = comparison.intervals(table, ["method"], "mc", drawn="seed").to_dict("records")
    expected = comparison.interval(table, "mc", by="seed")
    assert (row["low"], row["high"]) == (expected.low, expected.high)
    (other,) = comparison.intervals(table, ["method"], "mc").to_dict("records")
    assert other["low"] > row["low"]


# --- the best block without flattery ---


def swept(scores: dict[tuple[int, int], float]) -> pd.DataFrame:
    """One row a (seed, block) in the family "risk", and one in a control family."""
    return pd.DataFrame(
        [
            {"seed": seed, "block": block, "family": family, "p_truth": value}
            for (seed, block), score in scores.items()
            for family, value in (("risk", score), ("patience", 0.5))
        ]
    )


def test_each_half_is_measured_where_the_other_half_is_best() -> None:
    """Seeds 0 and 2 like block 1, seeds 1 and 3 like block 0."""
    table = swept(
        {(s, b): 0.9 if (s % 2 == 0) == (b == 1) else 0.2 for s in range(4) for b in (0, 1)}
    )
    found = comparison.cross_fitted(table, "risk")
    assert sorted(set(zip(found["seed"], found["block"], strict=True))) == [
        (0, 0), (1, 1), (2, 0), (3, 1)
    ]  # fmt: skip
    assert found[found["family"] == "risk"]["p_truth"].tolist() == [0.2] * 4
    assert len(found) == 8, "all families of the chosen runs"


def test_noise_alone_does_not_look_like_an_effect() -> None:
    """The best of ten blocks of pure noise is above its mean; cross-fitted it is not."""
    rng = np.random.default_rng(0)
    gains, flattering = [], []
    for _ in range(200):
        noise = {(s, b): float(rng.normal()) for s in range(4) for b in range(10)}
        table = swept(noise)
        gains.append(
            comparison.cross_fitted(table, "risk").query("family == 'risk'").p_truth.mean()
        )
        flattering.append(table[table.family == "risk"].groupby("block").p_truth.mean().max())
    assert abs(np.mean(gains)) < 0.12 < 0.5 < np.mean(flattering)


def test_one_seed_cannot_be_halved() -> None:
    with pytest.raises(UserError, match="two or more"):
        comparison.cross_fitted(swept({(0, 0): 1.0, (0, 1): 0.0}), "risk")
