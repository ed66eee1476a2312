"""Bars are for people: one rule decides whether anybody watches."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import nbformat
import pytest

from oocr_lib.util import progress


def kernel(monkeypatch: pytest.MonkeyPatch, asks: bool) -> None:
    shell = SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=asks))
    monkeypatch.setattr(progress, "_shell", lambda: shell)


def terminal(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(progress, "_shell", lambda: None)
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: there))


@pytest.mark.parametrize("said", ["", "0", "1"])
@pytest.mark.parametrize("where", [kernel, terminal])
@pytest.mark.parametrize("there", [True, False])
def test_the_variable_decides_and_else_who_is_there(
    monkeypatch: pytest.MonkeyPatch, said: str, where, there: bool
) -> None:
    where(monkeypatch, there)
    monkeypatch.setenv("OOCR_PROGRESS", said)
    assert progress.watched() == (said == "1" or (said == "" and there))


def test_no_standard_error_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OOCR_PROGRESS", raising=False)
    monkeypatch.setattr(sys, "stderr", None)
    assert not progress.watched()


@pytest.mark.parametrize("said", ["0", "1"])
def test_a_bar_passes_everything_on_and_is_seen_when_watched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    monkeypatch.setenv("OOCR_PROGRESS", said)
    assert list(progress.bar(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == "" and ("letters" in err) == (said == "1")


def test_a_kernel_that_is_run_by_a_program_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.delenv("OOCR_PROGRESS", raising=False)
    notebook = nbformat.v4.new_notebook()
    source = (
        "from oocr_lib.util import progress\n"
        "seen = [progress.watched(), progress._shell().kernel._allow_stdin]\n"
        "progress._shell().kernel._allow_stdin = True\n"
        "print(seen, progress.watched())"
    )
    notebook.cells = [nbformat.v4.new_code_cell(source)]
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    assert notebook.cells[0].outputs[0].text == "[False, False] True\n"
