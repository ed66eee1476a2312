"""Our bars are found where they are, gaps stay gaps, and the paper's are those that are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from oocr_lib.report import headline, metrics
from oocr_lib.report.metrics import Metrics
from oocr_lib.util.paths import data_dir
from oocr_lib.util.statistics import Interval


def test_bars_come_from_the_notebooks_numbers(tmp_path: Path) -> None:
    assert headline.ours(tmp_path).empty
    made = Metrics("03_locations", {})
    made.add("all/base/mc5", Interval(0.25, 0.2, 0.3, 15))
    made.add("all/vector_resid/mc5", Interval(0.9, 0.8, 1.0, 15))
    made.add("country/lora_one/mc5", Interval(0.1, 0.1, 0.1, 15))
    made.write(tmp_path / "03_locations" / metrics.FILE)
    found = headline.ours(tmp_path)
    assert list(found["family"]) == ["Cities", "Cities"]
    assert list(found["method"]) == ["base", "vector_resid"]
    assert found.iloc[1][["value", "low", "high", "n"]].tolist() == [0.9, 0.8, 1.0, 15]
    assert headline.ours(tmp_path, seed=1).empty, "another seed's numbers are not the reference's"


def test_the_shipped_numbers_fill_every_bar() -> None:
    found = headline.ours(data_dir() / "reference" / "laptop")
    assert len(found) == len(headline.SETS) * len(headline.METHODS)
    assert set(found["family"]) == set(headline.chance())


def test_the_papers_values_are_those_of_the_table_of_figures() -> None:
    known = headline.paper()
    assert len(known) == 7 * 4 and ("Cities", "vector_resid") not in known
    assert known["Cities", "lora_all"] == 0 and known["Functions", "vector_mlp_out"] == 0.9
    page = Path(__file__).parents[2] / "docs" / "figures.toml"
    text = page.read_text(encoding="utf-8") if page.is_file() else pytest.skip("no docs here")
    for one in headline.SETS:
        for value in one.paper:
            assert f"{value:.2f}" in text
