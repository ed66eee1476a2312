"""The cache folder: whole or not at all, and an error names the place where it happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from oocr_lib.util import cache
from oocr_lib.util.errors import UserError


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))


def test_a_folder_is_there_whole_and_made_once() -> None:
    target = cache.root() / "thing"
    with cache.making(target, 1) as aside:
        assert aside is not None
        (aside / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x"
    with cache.making(target, 1) as aside:
        assert aside is None


def test_what_fails_leaves_nothing_behind() -> None:
    target = cache.root() / "thing"
    with pytest.raises(ZeroDivisionError), cache.making(target, 1):
        raise ZeroDivisionError
    assert not [path for path in cache.root().iterdir() if path.is_dir()]


def test_a_file_elsewhere_that_cannot_be_read_is_not_blamed_on_the_cache(tmp_path: Path) -> None:
    missing = tmp_path / "none.gguf"
    with (
        pytest.raises(UserError, match=r"Cannot read .*none\.gguf.*Check the file"),
        cache.making(cache.root() / "thing", 1),
    ):
        missing.read_bytes()


def test_a_file_of_the_cache_that_cannot_be_written_is(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="Cannot write to the cache folder"),
        cache.making(cache.root() / "thing", 1) as aside,
    ):
        assert aside is not None
        (aside / "no folder" / "file").write_text("x")
