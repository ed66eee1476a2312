"""Other values than the defaults get a folder of their own, by what was committed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nbformat
import pytest

from oocr_lib.parameters import defaults
from oocr_lib.util.paths import ROOT
from tests import notebook_contract, tiny_notebooks


def test_every_notebook_here_has_defaults() -> None:
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        found = defaults.shipped(path.stem)
        real = path.stem == notebook_contract.REAL
        assert found["model"] == ("smollm2" if real else "testbed")
        assert found["preset"] == "laptop"
    assert defaults.shipped("no_such_notebook") == {}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose one notebook was changed since it was committed; its path."""
    (tmp_path / "notebooks").mkdir()
    path = tiny_notebooks.write(tmp_path / "notebooks", "a")
    own = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*own, "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    read = nbformat.read(path, as_version=4)
    read.cells[1].source = read.cells[1].source.replace("rate: float = 0.5", "rate: float = 0.7")
    nbformat.write(read, path)
    monkeypatch.setattr(defaults, "ROOT", tmp_path)
    monkeypatch.setattr(defaults, "shipped", defaults.shipped.__wrapped__)
    return path


def test_a_changed_and_saved_parameters_cell_changes_no_default(repository: Path) -> None:
    assert defaults.shipped("a")["rate"] == 0.5
    assert defaults.label({"rate": 0.7, "seed": 0}, defaults.shipped("a")) == "rate=0.7"


def test_without_git_the_file_counts(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repository.parent.parent.parent))
    (repository.parent.parent / ".git").rename(repository.parent.parent / "git")
    assert defaults.shipped("a")["rate"] == 0.7
    repository.write_text("{}")
    assert defaults.shipped("a") == {}


def test_what_differs_is_named_in_the_order_of_the_defaults() -> None:
    usual = {"model": "testbed", "preset": "laptop", "seed": 0, "out_dir": "", "layers": []}
    assert defaults.label({"layers": [], "seed": 0, "model": "testbed"}, usual) == ""
    assert defaults.label({"preset": "smoke", "out_dir": "x"}, usual) == ""
    first = defaults.label({"layers": [0, 2], "seed": 1}, usual)
    assert first == "seed=1,layers=0+2" == defaults.label({"seed": 1, "layers": [0, 2]}, usual)
    assert defaults.label({"unknown": 1}, usual) == ""
