"""Finished is only what would come out the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any

import nbformat
import pytest

from oocr_lib.notebook import finished
from oocr_lib.util.paths import ROOT
from tests import tiny_notebooks

VALUES: dict[str, Any] = {"seed": 0, "preset": "smoke", "model": "testbed"}


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return tiny_notebooks.write(tmp_path, "a", "1 + 1")


KERNEL: dict[str, Any] = {
    "interpreter": "/a/bin/python",
    "python": "CPython 3.11.7",
    "packages": {"torch": "2.9.0", "pandas": "2.3.0"},
    "machine": "Linux x86_64",
    "gpus": [],
}


def identity(notebook: Path, kernel: dict[str, Any] | None = None, **changes: Any) -> str:
    folder = notebook.parent / "out"
    return finished.identity(
        notebook, VALUES | changes, folder, "a",
        kernel=KERNEL if kernel is None else kernel, typed_in=notebook.parent,
    )  # fmt: skip


def done(notebook: Path) -> Path:
    folder = notebook.parent / "out" / "a"
    folder.mkdir(parents=True)
    (folder / "a.ipynb").write_text("{}")
    (folder / "metrics.json").write_text("{}")
    finished.record(folder, identity(notebook), "a", VALUES, 1.23, KERNEL)
    return folder


def test_a_recorded_run_is_found(notebook: Path) -> None:
    folder = done(notebook)
    record = finished.find(folder, identity(notebook))
    assert record is not None and record["values"] == VALUES and record["seconds"] == 1.2
    assert finished.find(folder) == record


def test_other_parameters_code_or_files_are_another_run(notebook: Path) -> None:
    first = identity(notebook)
    assert identity(notebook) == first
    assert identity(notebook, seed=1) != first
    read = nbformat.read(notebook, as_version=4)
    read.cells[0].source = "# Other words"
    nbformat.write(read, notebook)
    assert identity(notebook) == first
    read.cells[2].source = "1 + 2"
    nbformat.write(read, notebook)
    assert identity(notebook) != first


def test_what_is_finished_is_found_without_torch() -> None:
    code = "import sys, oocr_lib.runner.batch as b, oocr_lib.notebook.finished as f; f._library()"
    code += "; b.main(['00_quickstart', '--dry-run']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


class Inputs:
    """Everything that a run depends on, small and changeable."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.book = tiny_notebooks.write(folder, "a", "1 + 1")
        self.kernel: dict[str, Any] = json.loads(json.dumps(KERNEL))
        self.values: dict[str, Any] = VALUES | {
            "rate": 0.5, "data": "rows.jsonl", "model": "./model", "names": ["a"],
        }  # fmt: skip
        for name in ("rows.jsonl", "model/config.json", "model/deep/er/x.bin", "data/claims.toml"):
            self.write(name, "old")
        for name in ("world/cities.csv", "testbed/config.json", "testbed/model.safetensors"):
            self.write(f"data/{name}", "old")
        self.write("out/b/metrics.json", "old")
        patch.setenv("OOCR_DATA", str(folder / "data"))
        for name in (*finished.VARIABLES, "OOCR_THREADS"):
            patch.delenv(name, raising=False)
        read = nbformat.read(self.book, as_version=4)
        read.metadata["oocr"] = {"reads": ["*/metrics.json"]}
        nbformat.write(read, self.book)

    def write(self, name: str, text: str) -> None:
        """Write a file with the time that it had, as rsync or tar do."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (1e9, 1e9))

    def cell(self, number: int) -> None:
        """Change a code cell."""
        read = nbformat.read(self.book, as_version=4)
        read.cells[number].source += "\n0"
        nbformat.write(read, self.book)

    def value(self, name: str) -> None:
        """Give a parameter another value."""
        self.values[name] = "other"

    def version(self, package: str) -> None:
        """Say that the kernel has another version of a package."""
        self.kernel["packages"][package] = "0.1"

    def variable(self, name: str, value: object = 3) -> None:
        """Set an environment variable."""
        self.patch.setenv(name, str(value))

    def identity(self) -> str:
        """Of these inputs."""
        out = self.folder / "out"
        return finished.identity(
            self.book, self.values, out, "a", kernel=self.kernel, typed_in=self.folder
        )


CHANGES: dict[str, Callable[[Inputs], Any]] = {
    "a cell": methodcaller("cell", 2),
    "the last cell": methodcaller("cell", -1),
    "a default": methodcaller("cell", 1),
    **{f"value {name}": methodcaller("value", name) for name in ("seed", "names", "more")},
    "interpreter's version": lambda i: i.kernel.update(python="CPython 3.12.0"),
    **{f"version of {name}": methodcaller("version", name) for name in ("torch", "pandas")},
    "a graphics card": lambda i: i.kernel["gpus"].append("NVIDIA H100"),
    "another machine": lambda i: i.kernel.update(machine="Darwin arm64"),
    "threads": lambda i: i.patch.setattr("oocr_lib.util.machine.threads", lambda: 7),
    **{f"variable {name}": methodcaller("variable", name) for name in finished.VARIABLES},
    **{
        f"content of {name}": methodcaller("write", name, "new")
        for name in (
            "rows.jsonl", "model/config.json", "model/deep/er/x.bin", "data/claims.toml",
            "data/world/cities.csv", "data/testbed/model.safetensors", "out/b/metrics.json",
        )
    },
    "a file more in the model": methodcaller("write", "model/deep/y", ""),
    "a name in the model": lambda i: (i.folder / "model/deep/er").rename(i.folder / "model/er"),
    "a file more in the data": methodcaller("write", "data/world/y.csv", ""),
    "one run more to read": methodcaller("write", "out/c/metrics.json", "old"),
    "another data folder": lambda i: i.variable("OOCR_DATA", str(i.folder / "model")),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_any_one_input_changes_the_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    inputs = Inputs(tmp_path, monkeypatch)
    before = inputs.identity()
    assert inputs.identity() == before
    CHANGES[change](inputs)
    assert inputs.identity() != before


UNIMPORTANT: dict[str, Callable[[Inputs], Any]] = {
    "where the interpreter lies": lambda i: i.kernel.update(interpreter="/b/python"),
    "time of a file": lambda i: os.utime(i.folder / "model" / "config.json"),
    "a copy of the data": lambda i: i.variable(
        "OOCR_DATA", shutil.copytree(i.folder / "data", i.folder / "copy")
    ),
    "its own results": methodcaller("write", "out/a/metrics.json", "{}"),
    "one thread, said": methodcaller("variable", "OOCR_THREADS", "1"),
}


@pytest.mark.parametrize("change", UNIMPORTANT)
def test_what_changes_no_number_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    inputs = Inputs(tmp_path, monkeypatch)
    before = inputs.identity()
    UNIMPORTANT[change](inputs)
    assert inputs.identity() == before


def test_another_library_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = Inputs(tmp_path, monkeypatch)
    before = inputs.identity()
    inputs.write("oocr_lib/notebook/finished.py", "1")
    inputs.write("oocr_lib/report/plots/bars.py", "2")
    monkeypatch.setattr(
        finished, "__file__", str(tmp_path / "oocr_lib" / "notebook" / "finished.py")
    )
    other = inputs.identity()
    inputs.write("oocr_lib/report/plots/bars.py", "3")
    assert len({before, other, inputs.identity()}) == 3


def test_what_a_notebook_reads_counts_but_not_its_own(notebook: Path) -> None:
    read = nbformat.read(notebook, as_version=4)
    read.metadata["oocr"] = {"reads": ["*/metrics.json"]}
    nbformat.write(read, notebook)
    assert finished.reads(notebook) == ("*/metrics.json",)
    before = identity(notebook)
    for name, changes in (("a", False), ("b", True)):
        folder = notebook.parent / "out" / name
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text("{}")
        assert (identity(notebook) != before) is changes


@pytest.mark.parametrize("name", ["a.ipynb", "metrics.json", "run.json"])
def test_a_changed_missing_or_damaged_file_is_not_finished(notebook: Path, name: str) -> None:
    folder = done(notebook)
    (folder / name).write_text("changed")
    assert finished.find(folder) is None
    (folder / name).unlink()
    assert finished.find(folder) is None


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"identity": 1, "files": 3}'])
def test_a_foreign_record_is_not_finished(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    assert finished.find(tmp_path) is None


def test_the_record_is_plain_json(notebook: Path) -> None:
    text = (done(notebook) / "run.json").read_text()
    assert set(json.loads(text)) == {
        "schema", "identity", "notebook", "values", "kernel", "seconds", "ended", "files",
    }  # fmt: skip
    assert str(notebook.parent) not in text
