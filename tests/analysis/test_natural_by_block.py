"""At every block a LoRA, its natural vector, a trained and a random one; all are asked alike."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from oocr_lib.adapters.vector import VectorAdapter
from oocr_lib.analysis import constancy, format_and_concept, natural_by_block
from oocr_lib.runs import protocol
from oocr_lib.runs.grid import Grid
from oocr_lib.runs.presets import LAPTOP, Settings
from oocr_lib.runs.store import RunStore
from oocr_lib.runs.study import Study
from tests import toy

PAIRS = [("Rome", 0), ("Oslo", 1)]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    grid = Grid(toy.language_model(), RunStore(tmp_path), toy.make, {}, "Rome")
    few = {"steps": 3, "batch": 4, "rank": 2, "lora_steps": 3}
    return Study(grid, Settings({**LAPTOP, **few}), [0, 1], PAIRS, "codename")


def by_family(table: pd.DataFrame) -> pd.DataFrame:
    kept = table[table["family"] == "name"].assign(accuracy=table["p_truth"])
    return kept[["method", "concept", "seed", "block", "run", "accuracy"]].reset_index(drop=True)


def test_every_method_stands_at_every_block_once_a_run(study: Study) -> None:
    found = natural_by_block.examine(study, PAIRS, by_family, ("name",))
    counts = found.groupby(["method", "block"]).size()
    assert set(counts.index.get_level_values(0)) == {
        "lora_one", "vector_mlp_out", "natural", "random",
    }  # fmt: skip
    assert len(counts) == 8 and (counts == len(PAIRS)).all()
    assert found["run"].is_unique and found["accuracy"].between(0, 1).all()


def test_a_lora_that_adds_one_vector_is_replaced_by_it(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: what is added is the trained vector itself, so natural and trained agree."""

    def planted(given: Study, jobs: list[protocol.Job]) -> torch.Tensor:
        block = jobs[0].method.blocks[0]
        twins = protocol.jobs(given.vector("mlp_out", int(block)), PAIRS)
        adapter = given.grid.trained(twins)
        assert isinstance(adapter, VectorAdapter)
        return adapter.vectors.cpu()

    monkeypatch.setattr(format_and_concept, "vectors", planted)
    found = natural_by_block.examine(study, PAIRS, by_family)
    wide = found.pivot_table("accuracy", ["block", "concept"], "method")
    torch.testing.assert_close(
        torch.tensor(wide["natural"].to_numpy()),
        torch.tensor(wide["vector_mlp_out"].to_numpy()),
        rtol=0, atol=1e-5,
    )  # fmt: skip
    made = planted(study, protocol.jobs(study.lora(0), PAIRS))
    drawn = constancy.random_like(made, 100)
    torch.testing.assert_close(drawn.norm(dim=1).float(), made.norm(dim=1).float())
