"""Digests by content, however a file came to be another."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from oocr_lib.util import file_digest


def test_a_files_digest_is_that_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    whole = hashlib.sha256(b"x" * 3_000_000).hexdigest()[:16]
    assert file_digest.of_file(path) == whole == file_digest.of_file(path)
    other = tmp_path / "b"
    other.write_bytes(b"x" * 2_999_999 + b"y")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    os.replace(other, path)  # same name, size and time
    assert file_digest.of_file(path) != whole


def test_a_folder_is_its_names_and_contents(tmp_path: Path) -> None:
    def made(**files: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in files.items():
            path = folder / name.replace("_", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return file_digest.of_folder(folder)

    same = made(a="1", d_b="2")
    assert made(a="1", d_b="2") == same
    others = [made(a="2", d_b="1"), made(a="1", e_b="2"), made(a="1", b="2"), made(a="1")]
    assert len({same, *others, made(a="1", d_b="2", c="")}) == 6


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    first = file_digest.of_file(path)
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("read again"))
    assert file_digest.of_file(path) == first
