"""Hosted notebooks: links and set-up are the same everywhere, and torch is never touched."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import pytest

from oocr_lib import colab
from oocr_lib.errors import UserError
from oocr_lib.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_can_be_opened_where_it_is_hosted(path: Path) -> None:
    assert colab.problems(path.stem, nbformat.read(path, as_version=4)) == []


def test_writing_twice_changes_nothing_more_and_keeps_outputs() -> None:
    notebook = nbformat.v4.new_notebook()
    output = nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=1)
    code = nbformat.v4.new_code_cell("1 + 1", execution_count=1, outputs=[output])
    notebook.cells = [nbformat.v4.new_markdown_cell("# Title\n\nText"), code]
    assert len(colab.problems("00_a", notebook)) == 2
    colab.write("00_a", notebook)
    once = nbformat.writes(notebook)
    colab.write("00_a", notebook)
    assert nbformat.writes(notebook) == once and colab.problems("00_a", notebook) == []
    assert notebook.cells[0].source.startswith("# Title\n\n[Open in Colab](https://colab.")
    assert notebook.cells[0].source.endswith("\n\nText")
    last = notebook.cells[-1]
    assert (last.execution_count, last.outputs[0].execution_count) == (2, 2)
    nbformat.validate(notebook)


def test_the_set_up_cell_does_nothing_where_the_library_is_there(monkeypatch: Any) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it ran something"))
    exec(compile(colab.setup_source(), "setup", "exec"), {})


def test_the_set_up_cell_fetches_the_tag_where_it_is_not(monkeypatch: Any, tmp_path: Path) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: ran.append(command))
    monkeypatch.setattr(colab, "install", lambda: ran.append(["install"]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(compile(colab.setup_source(), "setup", "exec"), {})
    assert ran[0][:2] == ["git", "clone"] and ran[1] == ["install"]
    assert colab.address()[0] in ran[0] and f"v{colab.__version__}" in ran[0]


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


def test_the_address_stands_in_the_citation(tmp_path: Path) -> None:
    (tmp_path / "CITATION.cff").write_text("title: x\n")
    with pytest.raises(UserError, match="repository-code"):
        colab.address(tmp_path)
    (tmp_path / "CITATION.cff").write_text("repository-code: https://github.com/a/b-c.d  # x\n")
    assert colab.address(tmp_path) == ("https://github.com/a/b-c.d", "a/b-c.d")
