"""The table of a sweep, and what is drawn of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from oocr_lib import finished, plots, sweep
from oocr_lib.batch_child import Children
from oocr_lib.batch_job import Job, Worker
from oocr_lib.batch_progress import Progress
from oocr_lib.errors import UserError
from oocr_lib.metrics import Metrics
from oocr_lib.parameters import inspect
from tests import tiny_notebooks


def run(folder: Path, label: str, value: float, **values: Any) -> Path:
    """A finished run with one metric for each of two methods."""
    path = folder / label
    path.mkdir(parents=True)
    made = Metrics("a", {})
    made.add("all/base/accuracy", 0.2, n=1)
    made.add("all/vector_resid/accuracy", value, ci=(value - 0.1, value + 0.1), n=4)
    made.write(path / "metrics.json")
    (path / "a.ipynb").write_text("{}")
    finished.record(path, "0" * 16, "a", {"preset": "smoke", "out_dir": "", **values}, 1.0, {})
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in (0, 1):
        for rate in (0.1, 0.5):
            run(tmp_path, f"seed={seed},rate={rate}", rate + 0.1 * seed, seed=seed, rate=rate)
    return tmp_path


def test_what_varies_comes_first_and_every_metric_is_there(folder: Path) -> None:
    table = sweep.table(sweep.folders(folder))
    assert table.columns[:2].tolist() == ["seed", "rate"]
    assert table.columns[-2:].tolist() == ["preset", "folder"]
    assert len(table) == 8 and "out_dir" not in table.columns
    vector = table[table["method"] == "vector_resid"]
    assert vector["value"].tolist() == pytest.approx(
        (vector["rate"] + 0.1 * vector["seed"]).tolist()
    )
    assert (vector["low"] < vector["value"]).all() and set(vector["n"]) == {4}


def test_unfinished_runs_are_left_out(folder: Path) -> None:
    (folder / "seed=0,rate=0.1" / "metrics.json").write_text("{}")
    assert sweep.table(sweep.folders(folder))["folder"].nunique() == 3
    with pytest.raises(UserError, match="None of 1 runs is finished"):
        sweep.table([folder / "seed=0,rate=0.1"])


def test_seeds_become_a_mean_with_an_interval_and_can_be_drawn(folder: Path) -> None:
    table = sweep.table(sweep.folders(folder))
    drawn = sweep.lines(table, "all/accuracy", "rate")
    assert sorted(set(drawn["method"])) == ["base", "vector_resid"]
    vector = drawn[drawn["method"] == "vector_resid"].set_index("block")
    assert vector.loc[0.5, "value"] == pytest.approx(0.55) and vector.loc[0.5, "n"] == 2
    assert vector.loc[0.5, "low"] < 0.55 < vector.loc[0.5, "high"]
    figure = plots.layer_sweep(drawn, 0.2, "A title", xlabel="learning rate")
    assert "learning rate" in figure.axes[0].get_xlabel()
    one = sweep.lines(table, "all/vector_resid/accuracy", "rate", by="seed")
    assert sorted(set(one["method"])) == ["0", "1"] and len(one) == 4


@pytest.mark.parametrize(
    ("metric", "x", "by", "words"),
    [
        ("all/acuracy", "rate", "method", "Did you mean 'all/accuracy'"),
        ("all/accuracy", "rat", "method", "Did you mean 'rate'"),
        ("all/accuracy", "rate", "seeds", "Did you mean 'seed'"),
        ("all/accuracy", "preset", "method", "has no numbers"),
    ],
)
def test_wrong_names_get_one_line(folder: Path, metric: str, x: str, by: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        sweep.lines(sweep.table(sweep.folders(folder)), metric, x, by)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_tables_are_written_where_asked_and_kinds_are_checked(folder: Path, tmp_path: Path) -> None:
    source = tiny_notebooks.write(tmp_path, "a")
    job = Job(source, inspect(source), {"preset": "p"}, tmp_path, "x")
    run(tmp_path / "p" / "a", "x", 0.5, seed=0)
    said = list(sweep.write_tables([job], tmp_path / "all.csv"))
    assert said == [
        "Table of 1 runs: sweep.csv in a/",
        f"Table of 1 runs: all.csv in {tmp_path.name}/",
    ]
    assert len(pd.read_csv(tmp_path / "all.csv")) == 2
    assert len(pd.read_csv(tmp_path / "p" / "a" / "sweep.csv")) == 2
    with pytest.raises(UserError, match=r"Allowed: \.csv, \.parquet"):
        sweep.check_table(Path("x.xlsx"))


class Failing(Children):
    """Children whose kernels do not start the first time(s)."""

    def __init__(self, progress: Progress, outcomes: list[tuple[str, bool]]) -> None:
        super().__init__(progress)
        self.outcomes, self.calls = outcomes, 0

    def run(self, *_: Any) -> tuple[str, bool]:
        self.calls += 1
        return self.outcomes.pop(0)


@pytest.mark.parametrize(
    ("outcomes", "calls", "problem"),
    [
        ([("no kernel", False), ("no kernel", False)], 2, "no kernel"),
        ([("no kernel", False), ("cell 1 failed", True)], 2, "cell 1 failed"),
        ([("cell 1 failed", True)], 1, "cell 1 failed"),
    ],
)
def test_a_kernel_that_does_not_start_is_tried_once_more(
    tmp_path: Path, outcomes: list[tuple[str, bool]], calls: int, problem: str
) -> None:
    source = tiny_notebooks.write(tmp_path, "a")
    job = Job(source, inspect(source), {"preset": "smoke"}, tmp_path / "out")
    job.make_folder()
    with Progress(["a"]) as progress:
        worker = Worker(None, progress)
        children = Failing(progress, outcomes)
        worker._children = children
        outcome = worker.run(job)
    assert (children.calls, outcome.problem) == (calls, problem)
