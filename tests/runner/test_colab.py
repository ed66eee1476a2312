"""Hosted notebooks: links and set-up are the same everywhere, and torch is never touched."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import pytest

from oocr_lib.runner import colab
from oocr_lib.util.errors import UserError
from oocr_lib.util.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def root(folder: Path, repository: str = "https://github.com/a/b-c.d", tag: str = "v1") -> Path:
    """A repository with this address."""
    text = f'[tool.oocr]\nrepository = "{repository}"\ntag = "{tag}"\n'
    (folder / "pyproject.toml").write_text(text)
    (folder / "CITATION.cff").write_text("title: x\nlicense: MIT\n")
    return folder


def problems(name: str, notebook: nbformat.NotebookNode, here: Path = ROOT) -> bool:
    """Whether a notebook's links or set-up cell do not fit pyproject.toml."""
    copy = nbformat.from_dict(json.loads(json.dumps(notebook)))
    colab.write(name, copy, here)
    return [cell.source for cell in notebook.cells] != [cell.source for cell in copy.cells]


def small() -> nbformat.NotebookNode:
    notebook = nbformat.v4.new_notebook()
    output = nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=1)
    code = nbformat.v4.new_code_cell("1 + 1", execution_count=1, outputs=[output])
    notebook.cells = [nbformat.v4.new_markdown_cell("# Title\n\nText"), code]
    return notebook


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_fits_the_address(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert not problems(path.stem, notebook)
    hosted = any("Open in Colab" in cell.source for cell in notebook.cells)
    assert hosted == bool(colab.address()[0])
    assert "OWNER/REPOSITORY" not in path.read_text(encoding="utf-8")


def test_writing_twice_changes_nothing_more_and_keeps_outputs(tmp_path: Path) -> None:
    notebook, here = small(), root(tmp_path)
    assert problems("00_a", notebook, here)
    colab.write("00_a", notebook, here)
    once = nbformat.writes(notebook)
    colab.write("00_a", notebook, here)
    assert nbformat.writes(notebook) == once and not problems("00_a", notebook, here)
    assert notebook.cells[0].source.startswith("# Title\n\n[Open in Colab](https://colab.")
    assert "/a/b-c.d/blob/v1/notebooks/00_a.ipynb" in notebook.cells[0].source
    assert notebook.cells[0].source.endswith("\n\nText")
    last = notebook.cells[-1]
    assert (last.execution_count, last.outputs[0].execution_count) == (2, 2)
    nbformat.validate(notebook)


def test_without_an_address_there_is_nothing_hosted(tmp_path: Path) -> None:
    notebook, before = small(), nbformat.writes(small())
    (tmp_path / "set").mkdir()
    (tmp_path / "empty").mkdir()
    colab.write("00_a", notebook, root(tmp_path / "set"))
    empty = root(tmp_path / "empty", repository="", tag="")
    assert problems("00_a", notebook, empty)
    colab.write("00_a", notebook, empty)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in small().cells]
    assert len(nbformat.writes(notebook)) == len(before)
    assert colab.setup_source(empty) == colab.links("00_a", empty) == ""


def test_without_a_release_the_branch_is_opened(tmp_path: Path) -> None:
    """A tag that does not exist is never named."""
    assert f"blob/{colab.BRANCH}/" in colab.links("00_a", root(tmp_path, tag=""))


def test_the_set_up_cell_does_nothing_where_the_library_is_there(
    monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it ran something"))
    exec(compile(colab.setup_source(root(tmp_path)), "setup", "exec"), {})


def test_the_set_up_cell_fetches_the_tag_once(monkeypatch: Any, tmp_path: Path) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> None:
        ran.append(command)
        Path("oocr").mkdir()

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(colab, "install", lambda: ran.append(["install"]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    source = colab.setup_source(root(tmp_path))
    for _ in range(2):  # a reader may run the cell again
        exec(compile(source, "setup", "exec"), {})
    assert ran[0][:2] == ["git", "clone"] and ran[1:] == [["install"], ["install"]]
    assert "https://github.com/a/b-c.d" in ran[0] and "v1" in ran[0]


def test_torch_is_pinned_to_what_is_there_and_not_asked_for(monkeypatch: Any) -> None:
    seen: dict[str, Any] = {}

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen["command"] = command
        seen["pinned"] = Path(command[command.index("-c") + 1]).read_text()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    colab.install()
    assert seen["pinned"] == f"torch=={version('torch')}\n"
    asked = seen["command"][seen["command"].index("-c") + 2 :]
    assert any(text.startswith("transformers>=") for text in asked)
    assert not any(text.startswith("torch") for text in asked)


@pytest.mark.parametrize(("there", "words"), [("2.8.1", "torch 2.8.1 is too old"), ("2.9.0", "")])
def test_an_old_torch_is_named_and_left(monkeypatch: Any, there: str, words: str) -> None:
    monkeypatch.setattr(colab, "version", lambda name: there)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0))
    if not words:
        return colab.install()
    with pytest.raises(UserError, match=words):
        colab.install()


def test_a_failing_pip_is_an_error(monkeypatch: Any) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1))
    with pytest.raises(UserError, match="pip could not install"):
        colab.install()


def test_the_address_stands_in_one_place(tmp_path: Path) -> None:
    assert colab.address(root(tmp_path)) == ("https://github.com/a/b-c.d", "a/b-c.d", "v1")
    with pytest.raises(UserError, match="Allowed: https://github"):
        colab.address(root(tmp_path, repository="example.org/a"))
    assert colab.cite(root(tmp_path)) and not colab.cite(tmp_path)
    cited = (tmp_path / "CITATION.cff").read_text()
    assert cited == "title: x\nrepository-code: https://github.com/a/b-c.d\nlicense: MIT\n"
    (tmp_path / "pyproject.toml").write_text("")
    assert colab.cite(tmp_path)
    assert (tmp_path / "CITATION.cff").read_text() == "title: x\nlicense: MIT\n"
