"""The notebook runner, with real kernels: success is told from everything that looks like it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from oocr_lib.runner import batch, notebook_checks
from oocr_lib.util.paths import ROOT
from tests import tiny_notebooks
from tests.notebook_contract import contract_problems

ENVIRONMENT = {**os.environ, "OOCR_PRESET": "full", "PYTHONPATH": str(ROOT)}
BROKEN = {
    "02_raises": ["1 / 0"],
    "03_exits": ["import sys\nsys.exit(0)"],
    "04_dies": ["import os\nos._exit(0)"],
    "05_hangs": ["import time\ntime.sleep(60)"],
    "06_silent": [],
}
#: papermill adds a cell with the given parameters after the first.
PROBLEMS = {
    "02_raises": "code cell 3 of 4: ZeroDivisionError: division by zero",
    "03_exits": "code cell 3 of 4: SystemExit: 0",
    "04_dies": "code cell 3 of 4: DeadKernelError: Kernel died",
    "05_hangs": "code cell 3 of 4: CellTimeoutError: A cell timed out",
    "06_silent": "all cells ran, but none wrote metrics.json",
}


#: Folder of the runs with ``-p seed=3 -p blocks=2``.
LABEL = "seed=3,blocks=2"


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "oocr_lib.batch", *map(str, arguments)]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One batch over a good notebook and all kinds of bad ones."""
    folder = tmp_path_factory.mktemp("batch")
    good = tiny_notebooks.write(folder, "01_good", "print(seed, rate)")
    paths = [good]
    for name, cells in BROKEN.items():
        paths.append(tiny_notebooks.write(folder, name, *cells, finish=name != "06_silent"))
    smoke = folder / "out" / "smoke"
    for path in paths:  # left by earlier runs: must not be taken for this one's
        (smoke / path.stem / LABEL).mkdir(parents=True)
        (smoke / path.stem / LABEL / "metrics.json").write_text('{"old": true}')
    (smoke / "01_good" / LABEL / "01_good.failed.ipynb").write_text("{}")
    options = ["-p", "seed=3", "-p", "blocks=2", "--preset", "smoke", "--out", "out"]
    done = subprocess.run(
        command(*paths, *options, "--cell-timeout", "8", "-j", "2"),
        cwd=folder, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    return SimpleNamespace(folder=folder, smoke=smoke, done=done, good=good)


def test_exit_code_and_report(ran: SimpleNamespace) -> None:
    assert ran.done.returncode == 1
    lines = ran.done.stdout.splitlines()
    assert [line for line in lines if line.startswith(f"01_good {LABEL}    ok")]
    for name, problem in PROBLEMS.items():
        assert any(line.startswith(f"{name}") and problem in line for line in lines), lines
        assert any(f"out/smoke/{name}/{LABEL}/{name}.failed.ipynb" in line for line in lines)
    assert any("1 of 6 notebooks ran" in line for line in lines)
    names = ", ".join(f"{name} {LABEL}" for name in BROKEN)
    assert any(line.startswith(f"Failed: {names}.") for line in lines)


def test_progress_is_shown_while_it_runs(ran: SimpleNamespace) -> None:
    assert f"01_good {LABEL}    starts" in ran.done.stderr
    assert re.search(rf"^01_good {LABEL}    ran in \d+:\d\d", ran.done.stderr, re.MULTILINE)
    assert re.search(rf"^02_raises {LABEL}  failed after \d+:\d\d", ran.done.stderr, re.MULTILINE)
    assert "(6 of 6)" in ran.done.stderr
    assert "Traceback" not in ran.done.stderr


def test_the_good_notebook_has_its_parameters_and_its_metrics(ran: SimpleNamespace) -> None:
    files = sorted(path.name for path in (ran.smoke / "01_good" / LABEL).iterdir())
    assert files == [".lock", ".made.json", "01_good.ipynb", "metrics.json", "run.json"]
    written = json.loads((ran.smoke / "01_good" / LABEL / "metrics.json").read_text())
    assert written == {"seed": 3, "rate": 0.5, "fast": False, "blocks": [2]}


def test_a_parameter_summary_opens_the_output(ran: SimpleNamespace) -> None:
    notebook = nbformat.read(ran.smoke / "01_good" / LABEL / "01_good.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].cell_type == "markdown"
    assert "| `seed` | **`3`** (default `0`) | of everything random |" in notebook.cells[0].source
    assert notebook_checks.unfinished(notebook) == ""


def test_no_machine_path_in_the_output(ran: SimpleNamespace) -> None:
    text = (ran.smoke / "01_good" / LABEL / "01_good.ipynb").read_text()
    assert str(ran.folder) not in text
    assert json.loads(text)["metadata"]["papermill"]["input_path"] == "01_good.ipynb"


@pytest.mark.parametrize("name", BROKEN)
def test_a_failed_notebook_is_kept_apart_with_its_reason(ran: SimpleNamespace, name: str) -> None:
    files = {path.name for path in (ran.smoke / name / LABEL).iterdir()}
    assert files == {".lock", f"{name}.failed.ipynb", "metrics.json"}
    notebook = nbformat.read(ran.smoke / name / LABEL / f"{name}.failed.ipynb", as_version=4)
    assert notebook.cells[0].source.startswith("**This run failed.**")
    assert PROBLEMS[name] in notebook.cells[0].source
    assert notebook.metadata.papermill.exception is True
    states = [c.metadata.papermill.status for c in notebook_checks.code_cells(notebook)]
    ends = [] if name == "06_silent" else ["failed", "pending"]
    assert states == ["completed", "completed", *ends]  # the parameters, and those given
    if name == "02_raises":
        assert "ZeroDivisionError" in json.dumps(notebook)


def test_sources_are_left_alone(ran: SimpleNamespace) -> None:
    notebook = nbformat.read(ran.good, as_version=4)
    assert all(c.execution_count is None for c in notebook.cells if c.cell_type == "code")
    assert len(list(ran.folder.glob("*.ipynb"))) == 6


def test_in_place_commits_a_clean_notebook_that_opens_with_success(tmp_path: Path) -> None:
    path = tiny_notebooks.write(tmp_path, "01_good", "print(1 + 1)")
    done = subprocess.run(
        command(path, "--out", "out", "--in-place"),
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("Open out/laptop/01_good/01_good.ipynb")
    assert contract_problems(path) == []
    cells = nbformat.read(path, as_version=4).cells
    assert [c.get("execution_count") for c in cells] == [None, 1, 2, 3]
    assert cells[2].outputs[0].text == "2\n"


def test_an_interrupt_ends_all_and_leaves_no_result(tmp_path: Path) -> None:
    path = tiny_notebooks.write(tmp_path, "a", "open('started', 'w')\nimport time\ntime.sleep(90)")
    child = subprocess.Popen(
        command(path, "--out", "out"), cwd=tmp_path, env=ENVIRONMENT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Under a shell's "&" interrupts are ignored, also by children; here they must arrive.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 130
    assert "Interrupted" in errors and "Traceback" not in errors
    left = {file.name for file in (tmp_path / "out" / "laptop" / "a").iterdir()}
    assert left <= {".lock", "a.failed.ipynb"}


def test_all_without_notebooks(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(batch, "NOTEBOOKS", tmp_path)
    assert batch.main(["--all"]) == 2
    assert "There are no notebooks" in capsys.readouterr().err


def test_dry_run_prints_the_plan(tmp_path: Path, monkeypatch, capsys) -> None:
    for name in ("01_a", "02_b"):
        tiny_notebooks.write(tmp_path, name)
    monkeypatch.setattr(batch, "NOTEBOOKS", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert batch.main(["--all", "-p", "rate=2", "--dry-run", "--preset", "full"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: preset=full rate=2.0 -> results/full/{name}/rate=2.0/{name}.ipynb"
        for name in ("01_a", "02_b")
    ]
    assert not (tmp_path / "results").exists()
