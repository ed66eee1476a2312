"""A grid of rates grows where its end is chosen; planted spreads and choices are found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from oocr_lib.analysis import rates
from oocr_lib.runs import protocol
from oocr_lib.runs.grid import Grid, Job
from oocr_lib.runs.presets import LAPTOP, Settings
from oocr_lib.runs.store import RunStore
from oocr_lib.runs.study import Study
from oocr_lib.training.loop import TrainConfig
from oocr_lib.util.errors import UserError
from tests import toy

PAIRS = [("Rome", 0), ("Oslo", 1)]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    grid = Grid(toy.language_model(), RunStore(tmp_path), toy.make, {}, "Rome")
    few = {"steps": 2, "batch": 4, "rank": 2, "lora_steps": 2}
    return Study(grid, Settings({**LAPTOP, **few}), [0], PAIRS, "codename")


def by_family(table: pd.DataFrame) -> pd.DataFrame:
    kept = table[table["family"] == "name"].assign(accuracy=table["p_truth"])
    return kept[["method", "concept", "seed", "run", "valid_loss", "accuracy"]]


def table(accuracies: dict[float, dict[str, list[float]]], chosen: float) -> pd.DataFrame:
    rows = [
        {"lr": rate, "concept": name, "seed": k, "accuracy": x, "chosen": rate == chosen}
        for rate, concepts in accuracies.items()
        for name, listed in concepts.items()
        for k, x in enumerate(listed)
    ]
    return pd.DataFrame(rows)


def test_only_an_end_of_the_grid_has_a_rate_beyond() -> None:
    grid = [0.03, 0.003, 0.01]
    assert rates.beyond(grid, 0.01) is None
    assert rates.beyond(grid, 0.003) == pytest.approx(0.0009)
    assert rates.beyond(grid, 0.03) == pytest.approx(0.09)
    for bad in ([0.1], [0.1, 0.2, 0.3]):
        with pytest.raises(UserError, match="cannot be placed"):
            rates.beyond(bad, 0.5)
    with pytest.raises(UserError, match="comes twice"):
        rates.beyond([0.1, 0.1], 0.1)


def planted(best: float, asked: list[float]) -> Any:
    """Stands for ``Grid.run``: the validation loss is lowest at ``best`` and rises away from it."""

    def run(jobs: list[Job], label: str = "") -> pd.DataFrame:
        asked.extend(job.method.config.lr for job in jobs)
        return pd.DataFrame(
            [
                {"method": "m", "concept": j.concept, "seed": j.seed, "lr": j.method.config.lr}
                | {"run": f"{j.method.config.lr} {j.concept}", "family": "name", "length": 1.0}
                | {"valid_loss": abs(math.log(j.method.config.lr / best)), "valid_accuracy": 0.5}
                | {"p_truth": j.method.config.lr}
                for j in jobs
            ]
        )

    return run


@pytest.mark.parametrize(
    ("best", "most", "grid", "edge"),
    [
        (0.01, 2, [0.003, 0.01, 0.03], False),
        (0.09, 2, [0.003, 0.01, 0.03, 0.09, 0.27], False),
        (0.0003, 2, [0.00027, 0.0009, 0.003, 0.01, 0.03], True),
        (5.0, 2, [0.003, 0.01, 0.03, 0.09, 0.27], True),
        (5.0, 0, [0.003, 0.01, 0.03], True),
    ],
)
def test_the_grid_grows_while_its_end_is_chosen(
    study: Study, monkeypatch: pytest.MonkeyPatch, best: float, most: int, grid: Any, edge: bool
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(study.grid, "run", planted(best, asked))
    given = [0.01, 0.003, 0.03]
    found = rates.swept(study, study.lora(0), given, PAIRS, by_family, most=most)
    assert sorted(found["lr"].unique()) == pytest.approx(grid, rel=0.02)
    assert sorted(asked) == sorted(found["lr"]), "no rate is run twice"
    nearest = min(grid, key=lambda rate: abs(math.log(rate / best)))
    assert found.loc[found["chosen"], "lr"].unique().tolist() == pytest.approx([nearest], rel=0.02)
    assert set(found["edge"]) == {edge}


def test_a_real_sweep_has_one_row_a_run_and_places_around_the_choice(study: Study) -> None:
    found = rates.swept(study, study.vector("resid", 0), [0.01, 0.1], PAIRS, by_family, most=1)
    assert found["run"].is_unique and (found.groupby("lr").size() == len(PAIRS)).all()
    assert found["lr"].nunique() == 3 and found["chosen"].sum() == len(PAIRS)
    means = found.groupby("lr")["valid_loss"].mean()
    assert set(found.loc[found["chosen"], "lr"]) == {means.idxmin()}
    assert list(rates.around(found)[found["chosen"]]) == ["chosen"] * len(PAIRS)


def test_what_validation_loss_misses_is_its_regret() -> None:
    made = table({0.1: {"a": [0.5], "b": [0.7]}, 0.2: {"a": [0.9], "b": [0.9]}}, chosen=0.1)
    assert rates.regret(made) == pytest.approx(0.3)
    assert rates.regret(made.assign(chosen=made["lr"] == 0.2)) == 0
    places = rates.around(made)
    assert list(places) == ["chosen", "chosen", "above", "above"]


def test_spread_tells_concepts_from_seeds() -> None:
    made = table({0.1: {"a": [0.4, 0.6], "b": [0.8, 1.0]}, 0.2: {"a": [1, 1], "b": [1, 1]}}, 0.1)
    first, second = rates.spread(made, 0.2).to_dict("records")
    assert first["effect"] == pytest.approx(0.5)
    assert first["concepts"] == pytest.approx(0.4 / 2**0.5)
    assert first["seeds"] == pytest.approx(0.02**0.5)
    assert first["margin"] == pytest.approx(0.5 - 0.4 / 2**0.5)
    assert second["concepts"] == second["seeds"] == 0 and second["margin"] == pytest.approx(0.8)
    with pytest.raises(UserError, match="no spread"):
        rates.spread(made[made["concept"] == "a"], 0.2)


def test_a_gain_over_the_base_model_is_taken_run_by_run() -> None:
    """Planted: the base model knows Rome by luck; a method that adds 0.3 gains 0.3 on each."""
    lucky = {"Rome": 0.6, "Oslo": 0.0}

    class Planted:
        def run(self, jobs: list[Job], label: str) -> pd.DataFrame:
            added = {"base": 0.0, "lora": 0.3}
            return pd.DataFrame(
                [
                    {"method": j.method.name, "concept": j.concept, "seed": j.seed, "run": str(j)}
                    | {"accuracy": lucky[j.concept] + added[j.method.kind]}
                    for j in jobs
                ]
            )

    grid: Any = Planted()
    lora = protocol.lora("all", TrainConfig())
    found = rates.over_base(grid, lora, PAIRS, lambda table: table)
    assert found["concept"].tolist() == ["Rome", "Oslo"] and set(found["method"]) == {"lora_all"}
    assert found["base"].tolist() == [0.6, 0.0]
    assert found["gain"].tolist() == pytest.approx([0.3, 0.3])
