"""The table of a sweep, and what is drawn of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from oocr_lib.notebook import finished
from oocr_lib.parameters.cell import inspect
from oocr_lib.report import plots
from oocr_lib.report.metrics import Metrics
from oocr_lib.runner import batch, sweep
from oocr_lib.runner.child import Children
from oocr_lib.runner.job import Job, Outcome, Worker
from oocr_lib.runner.progress import Progress
from oocr_lib.util.errors import UserError
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


@pytest.mark.parametrize(
    ("metric", "x", "by", "words"),
    [
        ("all/acuracy", "rate", "method", "Did you mean 'all/accuracy'"),
        ("all/accuracy", "rat", "method", "Did you mean 'rate'"),
        ("all/accuracy", "rate", "seeds", "Did you mean 'seed'"),
    ],
)
def test_wrong_names_get_one_line(folder: Path, metric: str, x: str, by: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        sweep.plot(folder, metric, x, by)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_tables_are_written_where_asked_and_kinds_are_checked(folder: Path, tmp_path: Path) -> None:
    source = tiny_notebooks.write(tmp_path, "a")
    job = Job(source, inspect(source), {"preset": "p"}, tmp_path, "x")
    run(tmp_path / "p" / "a", "x", 0.5, seed=0)
    said = list(sweep.write_tables([job], tmp_path / "all.csv"))
    assert not (tmp_path / "p" / "a" / "sweep.html").exists(), "one run is nothing to compare"
    assert said == [
        "Table of 1 run: sweep.csv in a/",
        f"Table of 1 run: all.csv in {tmp_path.name}/",
    ]
    assert len(pd.read_csv(tmp_path / "all.csv")) == 2
    assert len(pd.read_csv(tmp_path / "p" / "a" / "sweep.csv")) == 2
    with pytest.raises(UserError, match=r"Allowed: \.csv, \.parquet"):
        sweep.check_table(Path("x.xlsx"))


def test_a_table_is_refused_before_the_runs_where_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    for path, words in (("folder.csv", "is a folder"), ("file/x.csv", "Cannot write --table")):
        with pytest.raises(UserError, match=words):
            sweep.check_table(tmp_path / path)
    sweep.check_table(tmp_path / "new" / "x.csv")
    assert not (tmp_path / "new").exists()

    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sweep.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"Cannot write --table .*Permission denied"):
        sweep.check_table(tmp_path / "x.csv")


def test_a_table_that_was_asked_for_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    source = tiny_notebooks.write(tmp_path, "a")
    job = Job(source, inspect(source), {"preset": "p"}, tmp_path, "x")
    run(tmp_path / "p" / "a", "x", 0.5, seed=0)
    (tmp_path / "taken.csv").mkdir()
    lines = sweep.write_tables([job], tmp_path / "taken.csv")
    assert next(lines).startswith("Table of 1 run: sweep.csv")
    with pytest.raises(UserError, match="Cannot write --table"):
        list(lines)


def test_after_a_sweep_its_means_are_on_the_screen_and_in_files(tmp_path: Path) -> None:
    source = tiny_notebooks.write(tmp_path, "a")
    folder = tmp_path / "p" / "a"
    jobs = [Job(source, inspect(source), {"preset": "p"}, tmp_path, f"seed={s}") for s in (0, 1)]
    for seed in (0, 1):
        run(folder, f"seed={seed}", 0.5 + 0.1 * seed, seed=seed)
    said = list(sweep.write_tables(jobs, None))
    assert said[:2] == ["Table of 2 runs: sweep.csv in a/", "Means over seeds, n runs each:"]
    assert [line.split() for line in said[3:5]] == [
        ["all/base/accuracy", "0.20", "[0.20,", "0.20]", "2"],
        ["all/vector_resid/accuracy", "0.55", "[0.50,", "0.60]", "2"],
    ]
    assert "sweep.html" in said[-1] and (folder / "sweep.html").is_file()
    summed = pd.read_csv(folder / "summary.csv")
    assert summed["value"].tolist() == pytest.approx([0.2, 0.55]) and set(summed["n"]) == {2}


def test_the_old_result_of_a_run_that_failed_now_is_no_result_of_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_notebooks.write(tmp_path, "a")
    for seed in (1, 2):
        run(tmp_path / "out" / "laptop" / "a", f"seed={seed}", 0.5, seed=seed)

    def run_all(jobs: list[Job], *_: Any) -> list[Outcome]:
        return [Outcome(j.title, "it failed" * (i == 0), 1.0, j.output) for i, j in enumerate(jobs)]

    monkeypatch.setattr(batch, "run_all", run_all)
    assert batch.main(["a.ipynb", "-p", "seed=1..2", "--out", "out", "--table", "all.csv"]) == 1
    for table in (Path("out", "laptop", "a", "sweep.csv"), Path("all.csv")):
        assert set(pd.read_csv(table)["seed"]) == {2}
    assert "1 runs in a/ are left out of it" in capsys.readouterr().out


#: The same values, given in other ways.
WAYS = [
    ["-p", "hidden=Lima", "-p", "seed=1"],
    ["-p", "seed=+1", "-p", "hidden=Lima", "-p", "block=0"],
    ["-p", "seed=0..1", "-p", "hidden=Paris,Lima"],
    ["--grid", "both.yaml"],
    ["--grid", "city.yaml", "-p", "seed=1"],
]


@pytest.mark.parametrize("given", WAYS, ids=" ".join)
def test_a_run_is_known_by_its_values_however_they_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, given: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("both.yaml").write_text("seed: [1, 2]\nhidden: Lima\n")
    Path("city.yaml").write_text("hidden: [Lima]\n")
    folder = "out/laptop/00_quickstart/seed=1,hidden=Lima"
    seen = []
    monkeypatch.setattr(
        "oocr_lib.notebook.finished.find", lambda place, identity: seen.append((place, identity))
    )
    for way in (["-p", "seed=1", "-p", "hidden=Lima"], given):
        assert batch.main(["00_quickstart", *way, "--out", "out", "--dry-run"]) == 0
        assert f"-> {folder}/00_quickstart.ipynb" in capsys.readouterr().out
    assert len({identity for place, identity in seen if place == Path(folder).resolve()}) == 1


@pytest.mark.parametrize("kind", ["table", "folder", "file"])
def test_a_plot_has_a_line_and_a_band_a_method(folder: Path, kind: str) -> None:
    table = sweep.table(sweep.folders(folder))
    table.to_csv(folder / "sweep.csv", index=False)
    source = {"table": table, "folder": folder, "file": str(folder / "sweep.csv")}[kind]
    ax = sweep.plot(source, "all/accuracy", "rate", chance=0.2).axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("rate", "all/accuracy")
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert set(lines) == {"base model", "vector (residual)", "chance (0.20)"}
    heights = np.asarray(lines["vector (residual)"].get_ydata())
    assert heights == pytest.approx([0.15, 0.55])
    bands = [band.get_paths()[0].get_extents() for band in ax.collections]
    assert [(band.y0, band.y1) for band in bands] == [
        pytest.approx((0.2, 0.2)),
        pytest.approx((0.1, 0.6)),
    ]


def test_a_plot_can_have_a_line_a_seed(folder: Path) -> None:
    ax = sweep.plot(folder, "all/vector_resid/accuracy", "rate", by="seed").axes[0]
    heights = {x.get_label(): np.asarray(x.get_ydata()).tolist() for x in ax.get_lines()}
    assert heights == {"0": pytest.approx([0.1, 0.5]), "1": pytest.approx([0.2, 0.6])}


def test_names_are_drawn_as_points_in_a_fixed_order(tmp_path: Path) -> None:
    for seed in (0, 1):
        for city, value in (("Oslo", 0.4), ("Lima", 0.8)):
            run(tmp_path, f"{seed}{city}", value + 0.1 * seed, seed=seed, hidden=city)
    figure = sweep.plot(tmp_path, "all/vector_resid/accuracy", "hidden")
    ax = figure.axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["Lima", "Oslo"]
    (points,) = [line for line in ax.get_lines() if line.get_label() == "vector (residual)"]
    assert points.get_linestyle() == "None"
    assert np.asarray(points.get_ydata()) == pytest.approx([0.85, 0.45])
    assert "over seeds (n = 2)" in plots.alt(figure)
    assert "over hidden (n = 2)" in plots.alt(sweep.plot(tmp_path, "all/accuracy", "seed"))


def test_values_over_many_powers_get_an_axis_of_powers(tmp_path: Path) -> None:
    for rate in (0.001, 0.01, 0.1):
        run(tmp_path, f"rate={rate}", 0.5, rate=rate)
    ax = sweep.plot(tmp_path, "all/accuracy", "rate").axes[0]
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0.001", "0.01", "0.1"]


def test_what_is_no_sweep_cannot_be_drawn(tmp_path: Path) -> None:
    (tmp_path / "sweep.csv").write_text("a,b\n1,2\n")
    for source, words in (
        (tmp_path, "has no column 'family'"),
        (tmp_path / "none.csv", "Cannot read the table"),
        (tmp_path / "none", "None of 0 runs is finished"),
    ):
        with pytest.raises(UserError, match=words) as error:
            sweep.plot(source, "all/accuracy", "rate")
        assert "\n" not in str(error.value)


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
