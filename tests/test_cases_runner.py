"""Inputs that once went wrong without a word, through the runner, papermill or a live kernel."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from oocr_lib.notebook import finished, session as experiment
from oocr_lib.notebook.injected import check_injected
from oocr_lib.parameters.cell import inspect
from oocr_lib.report import claim_file, claims, metrics
from oocr_lib.report.metrics import Metrics
from oocr_lib.runner import batch, notebook_checks, sweep
from oocr_lib.runner.job import Job
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT, data_dir
from tests import tiny_notebooks

BOOKS = ROOT / "notebooks"


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command, typed in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "oocr_lib.batch", *arguments, "--out", "out"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True, encoding="utf-8", errors="replace",
    )  # fmt: skip


def refused(folder: Path, *arguments: str) -> str:
    """The one line of a command that starts nothing."""
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert not (folder / "out").exists()
    return line


# ---- A value twice in a list counts as two measurements --------------------------------------


@pytest.mark.parametrize("text", ["layers=0,0", "layers=[0, 0]", "layers=[2, 1, 0,1]"])
def test_a_list_with_a_value_twice_is_refused(tmp_path: Path, capsys: Any, text: str) -> None:
    assert batch.main(["02_risky_safe", "-p", text, "--dry-run"]) == 2
    assert re.match(r"Parameter 'layers' has [01] twice\. Allowed: each", capsys.readouterr().err)


def test_a_list_with_a_value_twice_is_refused_from_everywhere(tmp_path: Path, capsys: Any) -> None:
    for text in ("layers: [[0, 1], [2, 2]]", "layers: [2, 2]"):
        (tmp_path / "grid.yaml").write_text(text)
        grid = ["--grid", str(tmp_path / "grid.yaml"), "--dry-run"]
        assert batch.main(["02_risky_safe", *grid]) == 2
        assert "Parameter 'layers' has 2 twice." in capsys.readouterr().err
    with pytest.raises(UserError, match="Parameter 'blocks' has 1 twice"):
        check_injected("a", [tiny_notebooks.PARAMETERS, "# Parameters\nblocks = [1, 0, 1]"])
    with pytest.raises(UserError, match="Parameter 'hidden' has 'Oslo' twice"):
        experiment.start("a", out_dir=tmp_path, params={"hidden": ["Oslo", "Oslo"]})
    more = "names: list[str] = ['a', 'a']  # twice\n"
    with pytest.raises(UserError, match="Parameter 'names' has 'a' twice"):
        inspect(tiny_notebooks.write(tmp_path, "a", more=more))


# ---- A notebook that names another kernel (with kernels that run: test_kernels) --------------


def test_a_kernel_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    tiny_notebooks.write(tmp_path, "a", kernel="no-such-kernel")
    assert "'no-such-kernel', which is not installed" in refused(tmp_path, "a.ipynb")


# ---- A cell that ends its process ------------------------------------------------------------


def test_the_cell_that_ended_the_kernel_is_marked(tmp_path: Path) -> None:
    tiny_notebooks.write(tmp_path, "a", "print(1)", "", "import os\nos._exit(0)", "print(2)")
    done = run(tmp_path, "a.ipynb")
    assert done.returncode == 1
    path = tmp_path / "out" / "laptop" / "a" / "a.failed.ipynb"
    cells = notebook_checks.code_cells(nbformat.read(path, as_version=4))
    states = [cell.metadata.papermill.status for cell in cells]
    # The parameters, those given, the first cell; then the one that ended it, and two others.
    assert states == ["completed"] * 3 + ["failed"] + ["pending"] * 2
    assert [cell.metadata.papermill.exception for cell in cells] == [False] * 3 + [True] + [
        False
    ] * 2


# ---- A path counts from where the command was typed ------------------------------------------

READ = """\
from oocr_lib.util import paths
print(paths.resolve(data).read_text(encoding="utf-8"))"""


@pytest.mark.long
def test_a_data_file_is_found_from_where_the_command_was_typed(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "typed").mkdir()
    more = 'data: str = ""  # a file\n'
    tiny_notebooks.write(tmp_path / "books", "a", READ, more=more)
    (tmp_path / "typed" / "rows.jsonl").write_text("the rows")
    command = ["../books/a.ipynb", "-p", "data=rows.jsonl", "-p", "seed=1"]
    done = run(tmp_path / "typed", *command)
    assert done.returncode == 0, done.stdout
    folder = tmp_path / "typed" / "out" / "laptop" / "a" / "seed=1,data=rows.jsonl"
    book = nbformat.read(folder / "a.ipynb", as_version=4)
    assert "the rows" in json.dumps(book) and 'data = "rows.jsonl"' in book.cells[3].source
    assert str(tmp_path) not in json.dumps(book)
    (tmp_path / "typed" / "rows.jsonl").write_text("other rows")
    assert "(finished)" not in run(tmp_path / "typed", *command, "--dry-run").stdout
    (tmp_path / "typed" / "rows.jsonl").write_text("the rows")
    assert "(finished)" in run(tmp_path / "typed", *command, "--dry-run").stdout
    line = refused(tmp_path / "books", "a.ipynb", "-p", "data=rows.jsonl", "--dry-run")
    assert "Parameter 'data' got 'rows.jsonl': there is no such file" in line


def test_a_model_that_nothing_has_is_refused_at_once(tmp_path: Path) -> None:
    tiny_notebooks.write(tmp_path, "a")
    for model in ("testbedd", "./none", "some/model"):
        assert f"odel {model!r}" in refused(tmp_path, "a.ipynb", "-p", f"model={model}")


# ---- Cells to try follow the parameters ------------------------------------------------------

#: Notebook, what its parameters made by then, and the values allowed in the cell to try.
TRIED = [
    ("03_locations", {"cities": ("Oslo", "Lima"), "block": {"resid": 0}}, ("Oslo", "Lima")),
    ("04_functions", {"keys": ("negate", "identity")}, ("negate", "identity")),
]


@pytest.mark.parametrize(("name", "known", "allowed"), TRIED, ids=lambda value: str(value)[:12])
def test_the_cell_to_try_takes_one_of_the_hidden_ones(
    name: str, known: dict[str, Any], allowed: tuple[str, ...]
) -> None:
    cells = nbformat.read(BOOKS / f"{name}.ipynb", as_version=4).cells
    (cell,) = [c for c in cells if c.cell_type == "code" and "# change me" in c.source]
    assign = ast.parse(cell.source).body[0]
    assert isinstance(assign, ast.Assign) and isinstance(assign.value, ast.Tuple)
    tried = eval(compile(ast.Expression(assign.value.elts[0]), "cell", "eval"), {}, known)
    assert tried in allowed


# ---- The claim table on a part of the notebooks ----------------------------------------------


def smoke(out: Path, notebook: str = "00_quickstart", **params: Any) -> Path:
    """Numbers of a notebook as it leaves them in preset smoke, with other parameters if given."""
    source = data_dir() / "reference" / "smoke" / notebook / metrics.FILE
    content = json.loads(source.read_text(encoding="utf-8"))
    content["params"] |= params
    folder = out / "smoke" / notebook
    folder.mkdir(parents=True, exist_ok=True)
    (folder / metrics.FILE).write_text(json.dumps(metrics.sealed(content)), encoding="utf-8")
    return out / "smoke"


@pytest.mark.parametrize("notebooks", [[], ["00_quickstart"]])
@pytest.mark.long
def test_the_claim_table_runs_on_any_notebooks(tmp_path: Path, notebooks: list[str]) -> None:
    for name in notebooks:
        smoke(tmp_path / "out", name)
    done = run(tmp_path, "11_claims", "--preset", "smoke")
    assert done.returncode == 0, done.stdout
    found = json.loads((tmp_path / "out" / "smoke" / "claims.json").read_text())
    judged = [
        check for claim in found["claims"] for check in claim["checks"]
        if check["verdict"] != "not run"
    ]  # fmt: skip
    assert {check["notebook"] for check in judged} == set(notebooks)


@pytest.mark.long
def test_the_claim_table_takes_a_file_of_rules_from_where_it_was_typed(tmp_path: Path) -> None:
    smoke(tmp_path / "out")
    text = (data_dir() / "claims.toml").read_text(encoding="utf-8")
    one = text[: text.index("[[claim]]", text.index("[[claim]]") + 1)]
    (tmp_path / "mine.toml").write_text(one, encoding="utf-8")
    done = run(tmp_path, "11_claims", "--preset", "smoke", "-p", "rules=mine.toml")
    assert done.returncode == 0, done.stdout
    folder = tmp_path / "out" / "smoke"
    own = folder / "11_claims" / "rules=mine.toml"
    assert len(json.loads((own / "claims.json").read_text())["claims"]) == 1
    assert not (folder / "claims.json").exists()  # the reference table stays as it was


# ---- Exploration never touches the reference results -----------------------------------------


def test_other_values_go_to_a_folder_of_their_own(tmp_path: Path, capsys: Any) -> None:
    def folder(*arguments: str) -> str:
        out = ["--out", str(tmp_path), "--preset", "smoke", "--dry-run"]
        assert batch.main(["00_quickstart", *arguments, *out]) == 0
        shown = capsys.readouterr().out.split(" -> ")[1].split(" ")[0].strip()
        return Path(shown).parent.relative_to(tmp_path / "smoke").as_posix()

    assert folder() == folder("-p", "hidden=Paris") == "00_quickstart"
    assert folder("-p", "seed=0", "-p", "block=0", "-p", "model=testbed") == "00_quickstart"
    assert folder("-p", "hidden=Cairo", "-p", "seed=0") == "00_quickstart/hidden=Cairo"
    assert folder("-p", "hidden=Cairo", "-p", "seed=1") == "00_quickstart/seed=1,hidden=Cairo"


def test_so_does_a_live_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OOCR_LABEL", raising=False)

    def folder(**params: Any) -> str:
        given: dict[str, Any] = {"hidden": "Paris", "block": 0, "site": "resid"} | params
        exp = experiment.start(
            "00_quickstart", seed=given.pop("seed", 0), out_dir=tmp_path, params=given
        )
        return exp.folder.relative_to(tmp_path / "laptop" / "00_quickstart").as_posix()

    assert folder() == "."
    assert folder(hidden="Cairo") == "hidden=Cairo"
    assert folder(site="mlp_out", seed=2) == "seed=2,site=mlp_out"
    monkeypatch.setenv("OOCR_LABEL", "mine")
    assert folder(hidden="Cairo") == "mine"


def test_so_does_plain_papermill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = """\
from oocr_lib.notebook import session as experiment
exp = experiment.start(
    "a", preset=preset, seed=seed, out_dir=out_dir, params={"rate": rate, "blocks": blocks}
)
exp.metrics.add("all/base/accuracy", rate)
_ = exp.finish()"""
    path = tiny_notebooks.write(tmp_path, "a", start, finish=False)
    environment = {k: v for k, v in os.environ.items() if k not in ("OOCR_LABEL", "OOCR_OUT")}
    command = [sys.executable, "-m", "papermill", str(path), str(tmp_path / "b.ipynb")]
    given = ["-p", "rate", "0.25", "-p", "seed", "0", "-p", "out_dir", str(tmp_path / "out")]
    subprocess.run([*command, *given], env=environment, capture_output=True, check=True)
    assert [p.parent.name for p in (tmp_path / "out").rglob(metrics.FILE)] == ["rate=0.25"]


def test_the_claim_table_reads_default_runs_only(tmp_path: Path) -> None:
    listed = [claim for claim in claim_file.load() if claim.checks[0].notebook == "00_quickstart"][
        :1
    ]
    (good,) = claims.judge(listed, smoke(tmp_path))
    assert good.word != "not run"
    assert good.measured[0].run.startswith("model testbed, preset smoke, seed 0")
    (other,) = claims.judge(listed, smoke(tmp_path, hidden="Cairo", block=1))
    assert other.word == "not run"
    missing = "00_quickstart was run with hidden Cairo, block 1, which is not its default"
    assert other.measured[0].missing == missing
    run = "model testbed, preset smoke, seed 0, hidden Cairo, block 1"
    assert other.measured[0].run == run
    for change in ({"model": "some/model"}, {"seed": 3}):
        (other,) = claims.judge(listed, smoke(tmp_path, **change))
        ((name, value),) = change.items()
        assert other.word == "not run" and f"{name} {value}" in other.measured[0].missing


def test_runs_of_another_model_are_judged_when_asked_for(tmp_path: Path) -> None:
    listed = [claim for claim in claim_file.load() if claim.checks[0].notebook == "00_quickstart"][
        :1
    ]
    folder = smoke(tmp_path, model="some/model", seed=3)
    place = claims.metrics_file(folder, "00_quickstart", "some/model", 3)
    assert place.parent.name.startswith("model=model,seed=3-")
    place.parent.mkdir()
    shutil.move(folder / "00_quickstart" / metrics.FILE, place)
    (found,) = claims.judge(listed, folder, "some/model", 3)
    assert found.word != "not run" and "model some/model" in found.measured[0].run
    assert claims.judge(listed, folder)[0].word == "not run"


@pytest.mark.parametrize("change", [{"model": "some/model"}, {"preset": "laptop"}])
def test_a_mixture_of_runs_is_refused(tmp_path: Path, change: dict[str, str]) -> None:
    smoke(tmp_path, "01_testbed")
    folder = smoke(tmp_path, **change)
    with pytest.raises(UserError, match="Runs of several kinds: 00_quickstart has") as error:
        claims.judge(claim_file.load(), folder)
    assert "\n" not in str(error.value) and next(iter(change.values())) in str(error.value)


# ---- The table of a sweep is of all calls ----------------------------------------------------


def done(source: Path, out: Path, **values: Any) -> Job:
    """A finished run, as a call of the runner leaves it."""
    label = ",".join(f"{name}={value}" for name, value in values.items() if value)
    job = Job(source, inspect(source), {"preset": "smoke"} | values, out, label)
    job.make_folder()
    made = Metrics(job.name, {})
    made.add("all/base/accuracy", 0.1 * values.get("seed", 0))
    made.write(job.folder / metrics.FILE)
    job.output.write_text("{}")
    finished.record(job.folder, job.identity(), job.name, job.all_values, 1.0, {})
    return job


def test_the_table_of_a_sweep_keeps_the_runs_of_earlier_calls(tmp_path: Path) -> None:
    source = tiny_notebooks.write(tmp_path, "a")
    jobs = [done(source, tmp_path / "out", seed=seed) for seed in range(6)]
    table = jobs[0].notebook_folder / sweep.FILE

    def written(*some: Job) -> list[int]:
        said = list(sweep.write_tables(some, None))
        assert said[0] == f"Table of {len(pd.read_csv(table))} runs: sweep.csv in a/"
        return sorted(pd.read_csv(table)["seed"])

    assert written(*jobs[1:]) == [1, 2, 3, 4, 5]  # the default was not part of it
    assert written(*jobs) == [0, 1, 2, 3, 4, 5]
    assert written(*jobs[1:5]) == [0, 1, 2, 3, 4, 5]
    (jobs[2].folder / metrics.FILE).write_text("{}")
    assert written(jobs[1]) == [0, 1, 3, 4, 5]
    assert list(sweep.write_tables(jobs[:1], None)) == []  # a default run alone is no sweep


def test_runs_that_would_come_out_otherwise_today_are_no_part_of_it(tmp_path: Path) -> None:
    source = tiny_notebooks.write(tmp_path, "a")
    old = done(source, tmp_path / "out", seed=1)
    read = nbformat.read(source, as_version=4)
    read.cells[-1].source += "\n0"
    nbformat.write(read, source)
    new = done(source, tmp_path / "out", seed=2)
    said = list(sweep.write_tables([new], None))
    assert pd.read_csv(old.notebook_folder / sweep.FILE)["seed"].tolist() == [2]
    assert said[1].startswith("1 runs in a/ are left out of it")


# ---- Text that is not ASCII, whatever the locale ---------------------------------------------


@pytest.mark.long
def test_names_and_texts_beyond_ascii_work_in_a_locale_without_them(tmp_path: Path) -> None:
    folder = tmp_path / "Zürich – 東京"
    folder.mkdir()
    more = 'city: str = ""  # Größe\n'
    cell = "print('São', city, open('text').read())"
    tiny_notebooks.write(folder, "é", cell, more=more)
    (folder / "text").write_text("naïve", encoding="utf-8")
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = ["é.ipynb", "-p", "city=Đà Nẵng", "--label", "x"]
    done = run(folder, *command, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    book = (folder / "out" / "laptop" / "é" / "x" / "é.ipynb").read_text(encoding="utf-8")
    assert "São Đà Nẵng naïve" in book and "Größe" in book and "out/laptop/é/x" in done.stdout
    again = run(folder, *command, "--dry-run", **variables)
    assert "(finished)" in again.stdout
