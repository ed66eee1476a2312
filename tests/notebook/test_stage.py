"""Results of a run appear together or not at all, whatever ends it and whenever."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from oocr_lib.notebook import finished, stage
from oocr_lib.notebook.stage import Stage
from oocr_lib.parameters.cell import inspect
from oocr_lib.runner import notebook_checks
from oocr_lib.runner.job import Job, Worker
from oocr_lib.runner.progress import Progress
from oocr_lib.util.paths import ROOT
from tests import tiny_notebooks

#: Five cells; ``seed`` makes other numbers, so that a part of a new run would be seen.
CELLS = [
    """\
import matplotlib.figure, os, pathlib, time
from oocr_lib.notebook import session as experiment
exp = experiment.start("book", preset=preset, seed=seed, params={"rate": rate})
def end(cell):
    pathlib.Path("cell.txt").write_text(str(cell))
    end_in = pathlib.Path("end_in.txt").read_text().split()
    if end_in == [str(cell)]:
        os.kill(os.getpid(), 9)
    if end_in == [str(cell), "wait"]:
        time.sleep(60)
number = float(pathlib.Path("number.txt").read_text())
end(1)""",
    """\
exp.table([{"x": number}], "numbers")
if number == 0:
    exp.table([{"x": number}], "first_version_only")
end(2)""",
    """\
figure = matplotlib.figure.Figure()
figure.subplots().plot([0, number])
exp.figure(figure, "line", "A line.", data="numbers")
end(3)""",
    """\
exp.metrics.add("all/base/accuracy", number)
end(4)""",
    """\
_ = exp.finish()
end(5)""",
]


def run(folder: Path, number: int, end_in: str = "-") -> str:
    """Run the notebook so that it ends in a cell; what is reported as wrong."""
    (folder / "number.txt").write_text(str(number))
    (folder / "end_in.txt").write_text(end_in)
    source = folder / "book.ipynb"
    job = Job(source, inspect(source), {"preset": "laptop"}, folder / "out")
    job.make_folder()
    with Progress(["book"]) as progress:
        return Worker(None, progress, rerun=True).run(job).problem


def results(folder: Path) -> dict[str, bytes]:
    """Every file below, and what it holds; without the lock and the failed notebook."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", "book.failed.ipynb")
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the notebook and the results of its first version."""
    folder = tmp_path_factory.mktemp("made")
    tiny_notebooks.write(folder, "book", *CELLS, finish=False)
    assert run(folder, 0) == ""
    names = {"book.ipynb", "metrics.json", "run.json", ".made.json", "line.png", "numbers.csv"}
    assert results(folder / "out" / "laptop" / "book").keys() == names | {"first_version_only.csv"}
    return folder


@pytest.fixture
def book(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.mark.long
def test_a_kernel_that_dies_in_any_cell_leaves_the_earlier_results(book: Path) -> None:
    place = book / "out" / "laptop" / "book"
    before = results(place)
    for cell in "135":  # before anything is kept, between, and after the last
        assert run(book, 1, cell) == f"code cell {int(cell) + 2} of 7: DeadKernelError: Kernel died"
        assert (book / "cell.txt").read_text() == cell
        assert results(place) == before, f"killed in cell {cell}"
        failed = nbformat.read(place / "book.failed.ipynb", as_version=4)
        states = [c.metadata.papermill.status for c in notebook_checks.code_cells(failed)]
        assert states.index("failed") == int(cell) + 1  # after the parameters and those given
    assert run(book, 1) == ""
    after = results(place)
    assert after.keys() == before.keys() - {"first_version_only.csv"}
    same = {name for name in after if after[name] == before[name]}
    assert same == set() and not (place / "book.failed.ipynb").exists()


@pytest.mark.long
def test_a_killed_batch_leaves_the_earlier_results(book: Path) -> None:
    place = book / "out" / "laptop" / "book"
    before = results(place)
    (book / "cell.txt").unlink()
    (book / "number.txt").write_text("1")
    (book / "end_in.txt").write_text("5 wait")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "oocr_lib.batch", "book.ipynb", "--out", "out", "--rerun"]
    child = subprocess.Popen(command, cwd=book, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (
        (book / "cell.txt").exists() and (book / "cell.txt").read_text() == "5"
    ):
        time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    left = {name: held for name, held in results(place).items() if not name.startswith(".stage")}
    assert (book / "cell.txt").read_text() == "5" and list((place / ".stage").iterdir())
    assert left == before
    stage.recover(place, alone=True)
    assert results(place) == before


@pytest.mark.parametrize("moved", range(6))
def test_a_move_that_is_cut_off_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    folder, names = tmp_path / "p" / "a", ["a.ipynb", "metrics.json", "sub/table.csv", "run.json"]

    def write(text: str, *more: str) -> Stage:
        made = Stage(folder, tmp_path / "p")
        for name in (*names, *more):
            (made.path / name).parent.mkdir(exist_ok=True)
            (made.path / name).write_text(text)
        (stage.shared_here(made.path) / "all.html").write_text(text)
        return made

    write("old", "gone.csv").publish()
    (folder / "mine.txt").write_text("not made by a run")
    replace, calls = os.replace, []

    def cut_off(source: Path, target: Path) -> None:
        if folder in Path(target).parents or Path(target).name == "all.html":
            calls.append(target)
        if len(calls) == moved + 2:  # the first one is the list's own
            raise KeyboardInterrupt
        replace(source, target)

    new = write("new")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            new.publish()
    new.discard()
    assert not (folder / finished.FILE).exists() or moved == 5, "it would look finished"
    stage.recover(folder)
    assert {(folder / name).read_text() for name in names} == {"new"}
    assert (tmp_path / "p" / "all.html").read_text() == "new"
    assert not (folder / "gone.csv").exists() and not (folder / ".stage").exists()
    assert (folder / "mine.txt").is_file()


def test_leftovers_go_when_nobody_can_be_writing_them(tmp_path: Path) -> None:
    run_stage, kernel, old = (Stage(tmp_path, tmp_path, kind) for kind in ("run", "kernel", "old"))
    os.utime(old.path, (0, 0))
    stage.recover(tmp_path)
    assert run_stage.path.is_dir() and kernel.path.is_dir() and not old.path.exists()
    stage.recover(tmp_path, alone=True)
    assert kernel.path.is_dir() and not run_stage.path.exists()


def test_a_list_that_names_other_folders_takes_nothing_away(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("x")
    folder = tmp_path / "a"
    folder.mkdir()
    outside = f'["../kept.txt", "{(tmp_path / "kept.txt").as_posix()}"]'
    for text in (f'{{"files": {outside}}}', "{}", "not JSON"):
        (folder / stage.LIST).write_text(text)
        made = Stage(folder, tmp_path)
        (made.path / "metrics.json").write_text("{}")
        made.publish()
        assert (tmp_path / "kept.txt").is_file() and (folder / "metrics.json").is_file()
