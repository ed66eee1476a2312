"""A path as typed: from where the command was, else from the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from oocr_lib.util import paths


def test_a_path_counts_from_where_it_was_typed_else_from_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed, kernel, root = (tmp_path / name for name in ("typed", "kernel", "root"))
    for folder in (typed, kernel, root):
        folder.mkdir()
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.delenv("OOCR_CWD", raising=False)
    monkeypatch.chdir(kernel)
    assert paths.resolve("a/b.jsonl") == kernel / "a/b.jsonl"  # nowhere: the first place
    (root / "rows.jsonl").write_text("")
    assert paths.resolve("rows.jsonl") == root / "rows.jsonl"
    (kernel / "rows.jsonl").write_text("")
    assert paths.resolve("rows.jsonl") == kernel / "rows.jsonl"
    monkeypatch.setenv("OOCR_CWD", str(typed))
    assert paths.resolve("rows.jsonl") == root / "rows.jsonl"  # where the kernel works is no hint
    (typed / "rows.jsonl").write_text("")
    assert paths.resolve("./x/../rows.jsonl") == typed / "rows.jsonl"
    assert paths.resolve("rows.jsonl", kernel) == kernel / "rows.jsonl"
    assert paths.resolve(str(root / "rows.jsonl")) == root / "rows.jsonl"


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.resolve("~/rows.jsonl") == tmp_path / "rows.jsonl"
