"""Finished is only what would come out the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from oocr_lib import finished, runs
from oocr_lib.paths import ROOT
from tests import tiny_notebooks

VALUES: dict[str, Any] = {"seed": 0, "preset": "smoke", "model": "testbed"}


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return tiny_notebooks.write(tmp_path, "a", "1 + 1")


def identity(notebook: Path, **changes: Any) -> str:
    folder = notebook.parent / "out"
    return finished.identity(notebook, VALUES | changes, folder, "a")


def done(notebook: Path) -> Path:
    folder = notebook.parent / "out" / "a"
    folder.mkdir(parents=True)
    (folder / "a.ipynb").write_text("{}")
    (folder / "metrics.json").write_text("{}")
    finished.record(folder, identity(notebook), "a", VALUES, 1.23)
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


@pytest.mark.parametrize("changed", ["pandas", "matplotlib"])
def test_versions_of_what_draws_count(
    notebook: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    def other(*names: str) -> dict[str, str]:
        return {name: "0.1" if name == changed else v for name, v in known(*names).items()}

    before, known = identity(notebook), runs.package_versions
    monkeypatch.setattr(finished, "package_versions", other)
    assert identity(notebook) != before


def test_what_is_finished_is_found_without_torch() -> None:
    code = "import sys, oocr_lib.batch, oocr_lib.finished as f; f._library()"
    code += "; from oocr_lib.runs import versions; versions(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_file_or_folder_that_a_parameter_names_counts(notebook: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("1")
    before = identity(notebook, model=str(data))
    data.write_text("2")
    assert identity(notebook, model=str(data)) != before
    folder = identity(notebook, model=str(tmp_path))
    (tmp_path / "new").write_text("")
    assert identity(notebook, model=str(tmp_path)) != folder


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
        "schema", "identity", "notebook", "values", "seconds", "ended", "files",
    }  # fmt: skip
    assert str(notebook.parent) not in text
